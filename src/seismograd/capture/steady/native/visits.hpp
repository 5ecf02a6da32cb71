// What a visit of a steady step is given, and what it answers.

#pragma once

#include <initializer_list>

#include "objects.hpp"

namespace seismograd {

enum Event { kZeroGradEnds, kBackwardBegins, kBackwardEnds, kStepBegins, kStepEnds, kClipBegins, kClipEnds, kScheduled, kNumEvents };

// Numbers of the settings of Python's modules.
struct Limits {
  int64_t user, library, most_without_step, first_losses, sample_every, budget_window, state_every, state_first, last_early, dense, most_turns,
      fewest_turns, turn_every;
  double max_age_s, min_loss;
};

// The lock of a session, held by whatever part of it runs in Python. As long as nobody has taken it, all is as the last visit has left it.
struct VisitLock {
  PyObject_HEAD PyObject* acquire;
  PyObject* release;
  int64_t num_taken;
  int64_t depth;  // how often the thread that has it has taken it
};

// What is so in a steady training, asked once and true until Python has run: then nothing of it has to be asked again, which takes long, as the
// training has emptied the processor's caches since the last visit.
struct Known {
  bool is_steady = false;
  int64_t num_taken = -1;  // of the lock, when this was asked
  int64_t num_full = -1;   // visits of the full way until then
  unsigned long thread = 0;
  Ref state, window, clearing, per_loss, probe, references, none, not_carried, windows, index, bit;
  Ref kinds, places;  // of call sites
  // Where the loop is.
  bool is_stepping = false, is_used = false, is_clipping = false, has_clips = false, has_ready = false, has_carried = false, is_probed = false;
  Ref loss, captured, losses, sites, clipping;  // of the running backward or clip, and of the window
  int64_t bit_number = 0, num_steps = 0, num_backwards = 0, num_heard = 0, num_heard_before = 0, last_operation = 0, operation = 0;
  // What is looked at now and then only.
  int64_t num_heard_in_all = 0, next_look = 0, num_observed = 0, num_probed_steps = 0, probe_due = 0, num_rows = 0, xray_due = 0;
  Ref models, at_site, shapes, calls, operands, followed_slices, parameters_by_model;
  // Of the queue and the budget.
  Ref alone, judged, waiting, columns, epoch;
  int64_t num_together = 0, num_budgeted = 0, least_budgeted = 0;
  double budget_start_s = 0, budget_least_s = 0, start_s = 0;
  // Of the reading.
  Ref ids, id_set, plan_columns, positions, numels, whole, table, is_still_so, known_at, entries_at, kernel, instructions, num_collectives;
  int64_t num_measured = 0, num_plain = 0, sketch_every = 0;
  double plain_s = 0;
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
  double rare_s;                   // what that took in this visit, which it has counted itself
};

inline const VisitLock& lock_of(const Visits& own) { return *reinterpret_cast<const VisitLock*>(own.lock); }

// What is so when a visit begins.
struct Moment {
  Ref iteration;  // of the thread
  double began_s;
};

// Ask everything of a steady training; false where this is none.
bool ask_all(Visits& own);

// Ask how gradients are read, alone.
bool ask_reading(const Visits& own, Known& known);

// Ask what may have changed since Python has handled this event: where it has taken the short way nothing else has.
void ask_after(Visits& own, Event event);

// Whether no part of the session has run in Python since everything was asked: another thread may, while the interpreter is left to it.
inline bool is_as_asked(const Visits& own) { return own.known->num_taken == lock_of(own).num_taken && lock_of(own).depth == 0; }

// Seconds by `time.perf_counter`.
bool clock_s(const Visits& own, double* seconds);

// Whether the visit was made. Everything is made before anything is changed, so `kNo` leaves all as it was; `kBroken`: Python has raised in
// between, mostly for want of memory; `kRaised`: it has raised behind all that, and what it did is the program's.
enum class Outcome { kNo, kYes, kBroken, kRaised };

inline Outcome outcome(bool is_done) { return is_done ? Outcome::kYes : Outcome::kBroken; }

Outcome zero_grad_ends(Visits& own, const Moment& now, PyObject* owner);
Outcome backward_begins(Visits& own, const Moment& now, PyObject* loss);
Outcome backward_ends(Visits& own, const Moment& now);
Outcome clip_begins(Visits& own, const Moment& now, PyObject* parameters);
Outcome clip_ends(Visits& own, const Moment& now, PyObject* kind, PyObject* limit, PyObject* total, PyObject* is_l2);
Outcome step_begins(Visits& own, const Moment& now, PyObject* optimizer, PyObject* closure, PyObject* compiled);
Outcome step_ends(Visits& own, const Moment& now, PyObject* optimizer);

// Have Python do something behind all else of a visit: the one of `rare` at this position, with these arguments.
Outcome have_done(Visits& own, Event event, int position, std::initializer_list<PyObject*> args);

// Which tensors the gradients of the followed parameters are, and how often each was changed, as `ClearingTracker.marks` has it; none where any is
// not a plain tensor, or is gone.
Ref marks_of(const Visits& own);

// The one number that a tensor on the CPU is, where it can be read: what `Scalar` asks of it. A tensor without memory says so of its address, one of
// several numbers when it is asked for its item.
Ref number_of(const Visits& own, PyObject* tensor);

// Whether what the last step used had no zeros and only finite numbers, as far as that is known: where it had, Python looks at the next one too.
bool was_ordinary(const Known& known);

// Whether this is the only optimizer.
bool is_only(const Visits& own, PyObject* optimizer);

bool are_equal(const Ref& one, const Ref& other);

// The index of the user's line, as `CallSites.here` finds it where it is known; else none.
Ref site_here(const Visits& own);

// A call of this kind at this line, as `EventLog.record` makes it, which is still to be appended.
struct Numbers {
  PyObject *optimizer, *value, *limit, *scale;
  int64_t flags;
  PyObject* touched;
};
Ref captured_call(const Visits& own, const Moment& now, PyObject* kind, PyObject* detail, const Ref& site, const Numbers& numbers);

// Whether the iteration takes one more call without dropping old ones.
bool has_room(const Visits& own, const Ref& iteration);

// A number that is known.
Ref known_scalar(const Visits& own, PyObject* value);

inline bool is_plain(const Visits& own, PyObject* tensor) { return type_of(tensor) == own.tensor || type_of(tensor) == own.parameter; }

}  // namespace seismograd
