// What a visit of a steady step is given, and what it answers.

#pragma once

#include <initializer_list>

#include "heard.hpp"

namespace seismograd {

enum Event { kZeroGradEnds, kBackwardBegins, kBackwardEnds, kStepBegins, kStepEnds, kClipBegins, kClipEnds, kScheduled, kNumEvents };

// Numbers of the settings of Python's modules.
struct Limits {
  int64_t user, library, most_without_step, first_losses, sample_every, budget_window, state_every, state_first, last_early, dense, most_turns,
      fewest_turns, turn_every, max_slice, min_slice, min_copied;
  double max_age_s, min_loss, share_copied;
};

// The lock of a session, held by whatever part of it runs in Python. As long as nobody has taken it, all is as the last visit has left it.
struct VisitLock {
  PyObject_HEAD PyObject* acquire;
  PyObject* release;
  int64_t num_taken;
  int64_t depth;     // how often the thread that has it has taken it
  PyObject* visits;  // which hand over what they have heard to who takes it; borrowed
};

// Where an event came from the last time: the frames' code, from that of the hook to that of the user's line.
struct KnownLine {
  static constexpr int kMost = 16;
  using Codes = std::array<Ref, kMost>;
  Codes codes;
  int num = 0;
  int64_t instruction = -1;
  Ref site;
};

// What a step has used, as far as the next one asks.
enum class Used {
  kOrdinary,  // no gradient of zeros alone, and only finite numbers
  kZeros,     // only finite numbers
  kOther,
};

// A weight of which some rows are compared: where they lie, in bytes, and what the last step has left there.
struct FollowedWeight {
  Ref slice, reference;
  int64_t address = 0, num_bytes = 0, first = 0, stride = 0, width = 0;
  std::vector<char> kept;
};

// What is so in a steady training, asked once and true until Python has run: then nothing of it has to be asked again, which takes long, as the
// training has emptied the processor's caches since the last visit. What the visits change of it themselves stands here until it is handed over.
struct Known {
  bool is_steady = false;
  int64_t num_taken = -1;  // of the lock, when this was asked
  int64_t num_full = -1;   // visits of the full way until then
  unsigned long thread = 0;
  Ref state, window, clearing, per_loss, probe, references, not_carried, windows, index, bit;
  Ref optimizer;                     // a reference to the only one
  Ref kinds, places;                 // of call sites
  std::vector<const void*> touched;  // what the marks were asked of
  // Where the loop is. What an event or a step of the running iteration tells stands there.
  bool is_stepping = false, is_used = false, is_clipping = false, is_clear = false, has_ready = false, has_applied = false, has_carried = false,
       is_probed = false;
  Used last_used = Used::kOther, ready_used = Used::kOther;     // by the last step, and by the next one
  bool is_alone = false;                                        // no other optimizer has stepped beside this one in an iteration
  bool is_heard = false;                                        // something is to be handed over
  bool is_in_backward = false;                                  // of a loss in the running iteration
  bool has_loss = false, has_site = false;                      // in the window, of the backward in the running iteration
  bool has_begun = false, has_ended = false, has_read = false;  // a step, and gradients, since the last time that something was handed over
  Ref loss, captured, clipping;                                 // of the running backward or clip, where Python has them; else `None`
  Ref losses, sites, clips;                                     // of the window: lists, none for a new one without anything in it
  Ref grad_scale, loss_scale, next_scale;                       // of the window, and of the next backward
  Ref ready, step, step_heard;                                  // of the window, where Python has them; else `None`
  Ref last, last_step_site;                                     // of the window, where they are new
  Marks now, marks_before, marks_last;
  int64_t bit_number = 0, num_steps = 0, num_backwards = 0, num_heard = 0, num_heard_before = 0, last_operation = 0, operation = 0;
  double now_s = 0;
  HeardIteration iteration;                      // the running one
  int64_t num_events = 0;                        // in it
  bool has_stepped = false, ends_alone = false;  // it has made a step, and one of this optimizer alone, as ever
  std::vector<HeardIteration> finished;          // those before, the oldest first
  // What is looked at now and then only.
  Ref zeros, flat;  // how often gradients of zeros alone were looked at, by optimizer
  int64_t num_zeros = 0, num_flat = 0;
  Ref reduction;  // the last one that Python has found, of a mean over so many
  double reduction_count = 0;
  int64_t num_heard_in_all = 0, next_look = 0, num_observed = 0, num_at_site = -1, num_probed_steps = 0, probe_due = 0, num_rows = 0, xray_due = 0;
  Ref models, at_site, shapes, backward_site, shape, calls, operands, parameters_by_model;
  Ref followed_slices;        // of Python
  bool are_followed = false;  // and they were taken
  bool has_kept = false;      // of them what Python does not have yet
  std::vector<FollowedWeight> followed;
  // Of the probe: what is copied of the running step, where nobody else has it yet.
  Ref copies, copies_at, keep_at, compare_at, slices, slice_dtypes;
  int64_t num_scalars = -1, copies_bytes = 0, probe_next = 0, probe_round = 0;
  double probes_s = 0;  // since the last time that something was handed over
  // Of the queue and the budget.
  Ref judged, waiting, columns, epoch;
  int64_t num_together = 0, num_waiting = 0, num_judged = 0, num_budgeted = 0, least_budgeted = 0;
  double oldest_s = 0, budget_start_s = 0, budget_least_s = 0, start_s = 0;
  // Of the reading.
  Ref ids, id_set, plan_columns, positions, numels, whole, table, is_still_so, known_at, entries_at, kernel, instructions, num_collectives,
      num_parameters, rate, lr;
  int64_t num_measured = 0, num_plain = 0, sketch_every = 0;
  double plain_s = 0;
  std::array<KnownLine, kNumEvents> lines;
};

struct Visits {
  PyObject_HEAD
#define X(name) PyObject* name;
#include "parts.inc"
#undef X
      Limits limits_;
  Known* known;
  bool is_inside;                  // a visit of ours is being made
  double clock_ahead_s;            // of Python's clock before ours; NaN where it is another one
  PyObject* fallback[kNumEvents];  // what handles the event where it is not as in nearly every step
  PyObject* wakes[kNumEvents];     // what the other listeners are asked first
  PyObject* rare[kNumEvents];      // what Python does behind all else, now and then
  unsigned long rare_thread;       // the one on which Python does so now, else 0
  double rare_s;                   // what that took in this visit, which it has counted itself
};

inline VisitLock& lock_of(const Visits& own) { return *reinterpret_cast<VisitLock*>(own.lock); }

// Ask everything of a steady training; false where this is none.
bool ask_all(Visits& own);

// Ask how gradients are read, alone.
bool ask_reading(const Visits& own, Known& known);

// Ask what may have changed since Python has handled this event: where it has taken the short way nothing else has.
void ask_after(Visits& own, Event event);

// Whether no part of the session has run in Python since everything was asked: another thread may, while the interpreter is left to it.
inline bool is_as_asked(const Visits& own) { return own.known->num_taken == lock_of(own).num_taken && lock_of(own).depth == 0; }

// Tell Python where the loop is, and what the running iteration has heard; false where it has raised.
bool tell(Visits& own);

// Give it all that was heard, or for one of its rare parts just that; false where it has raised.
bool hand_over(Visits& own);

// What an event tells beside its kind, time and line.
struct EventNumbers {
  PyObject *kind, *optimizer, *detail, *value, *limit, *scale;
  int64_t touched;
};

// The event of a call.
Ref made_event(const Visits& own, const HeardCall& call, const EventNumbers& numbers);

// What was read as an object; `loss` where it has no losses of its own.
Ref made_reading(const Visits& own, const HeardReading& reading, PyObject* loss);

// Seconds by `time.perf_counter`.
bool clock_s(const Visits& own, double* seconds);

// Whether the visit was made. Everything is made before anything is changed, so `kNo` leaves all as it was; `kBroken`: Python has raised in
// between, mostly for want of memory; `kRaised`: it has raised behind all that, and what it did is the program's.
enum class Outcome { kNo, kYes, kBroken, kRaised };

inline Outcome outcome(bool is_done) { return is_done ? Outcome::kYes : Outcome::kBroken; }

Outcome zero_grad_ends(Visits& own, PyObject* owner);
Outcome backward_begins(Visits& own, PyObject* loss);
Outcome backward_ends(Visits& own);
Outcome clip_begins(Visits& own, PyObject* parameters);
Outcome clip_ends(Visits& own, PyObject* kind, PyObject* limit, PyObject* total, PyObject* is_l2);
Outcome step_begins(Visits& own, PyObject* optimizer, PyObject* closure, PyObject* compiled);
Outcome step_ends(Visits& own, PyObject* optimizer);

// Whether they are what the last step has left.
bool are_unchanged(const Visits& own);

// Keep what the step leaves of them; false where one does not lie as before.
bool keep_followed(const Visits& own);

// Hand over what was kept.
bool tell_followed(const Visits& own);

// Copy slices of so many of these weights, those whose turn it is; false where Python has to.
bool copy_slices(Visits& own, const Ref& parameters, int64_t num);

// Compare them with the weights, as `ProbedUpdates`; none where Python has to.
Ref compared_slices(Visits& own, PyObject* optimizer);

// Hand over what is known of the probe.
bool tell_probe(const Visits& own);

// Have Python do something behind all else of a visit: the one of `rare` at this position, with these arguments.
Outcome have_done(Visits& own, Event event, int position, std::initializer_list<PyObject*> args);

// Have memory brought into the processor's caches, all of it at once.
void prefetch(const void* at, size_t num_bytes);

// Which tensors the gradients of the followed parameters are, and how often each was changed; false where any is not a plain tensor, or is gone.
bool take_marks(const Visits& own, Marks* marks);

// What these numbers of gradients are, as an array or its bytes.
Used used_of(const Visits& own, PyObject* numbers);

// The same of a reading.
Used used_of(const Visits& own, const Ref& reading);

// The one number that a tensor on the CPU is, where it can be read: what `Scalar` asks of it. A tensor without memory says so of its address, one of
// several numbers when it is asked for its item.
Ref number_of(const Visits& own, PyObject* tensor);

// Whether this is the only optimizer.
bool is_only(const Visits& own, PyObject* optimizer);

bool are_equal(const Ref& one, const Ref& other);

// The index of the user's line, as `CallSites.here` finds it where it is known; else none.
Ref site_here(const Visits& own, Event event);

// Whether the iteration takes one more call without dropping old ones.
bool has_room(const Visits& own);

// A number that is known.
Ref known_scalar(const Visits& own, PyObject* value, bool is_used = false);

// What a weak reference is to; none where it is gone.
inline PyObject* referent(PyObject* reference) {
  PyObject* found = PyWeakref_GetObject(reference);  // borrowed
  return found == Py_None ? nullptr : found;
}

inline bool is_plain(const Visits& own, PyObject* tensor) { return type_of(tensor) == own.tensor || type_of(tensor) == own.parameter; }

}  // namespace seismograd
