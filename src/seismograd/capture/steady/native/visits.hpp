// What a visit of a steady step is given, and what it answers.

#pragma once

#include <initializer_list>

#include "known.hpp"

namespace seismograd {

// Numbers of the settings of Python's modules.
struct Limits {
  int64_t user, library, most_without_step, first_losses, sample_every, budget_window, state_every, state_first, last_early, dense, most_turns,
      fewest_turns, turn_every, max_slice, min_slice, min_copied, sharing_looks, shared, num_bins;
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

// Whether the looks of a step with samples would find nothing that is new in the only group of the optimizer, nor a copy of the model; then they
// count as made.
bool sees_nothing_new(const Visits& own, PyObject* group);

// Have Python do something behind all else of a visit: the one of `rare` at this position, with these arguments.
Outcome have_done(Visits& own, Event event, int position, std::initializer_list<PyObject*> args);

// Have the X-ray hear of the event in the one step in which it listens, by what Python does behind all else at this position.
Outcome tell_xray(Visits& own, Event event, int position, std::initializer_list<PyObject*> args);

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
