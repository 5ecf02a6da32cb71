// The ready gradients of the only optimizer, read before its step or the clip of all of them.

#pragma once

#include "visits.hpp"

namespace seismograd {

// The parameters of the only group of an optimizer, and its rate, where these are what nearly all optimizers have.
struct Group {
  Ref first, parameters, rate;  // the group itself

  explicit Group(PyObject* optimizer) {
    const Ref kept = get(optimizer, s___dict__);
    if (!kept || !PyDict_Check(kept.get())) return;
    PyObject* scale = PyDict_GetItemWithError(kept.get(), s_grad_scale);  // borrowed, as all that follow
    PyObject* groups = PyDict_GetItemWithError(kept.get(), s_param_groups);
    if ((scale && scale != Py_None) || !groups || !PyList_CheckExact(groups) || PyList_Size(groups) != 1) return;
    PyObject* group = PyList_GetItem(groups, 0);
    if (!group || !PyDict_CheckExact(group)) return;
    PyObject *listed = PyDict_GetItemWithError(group, s_params), *number = PyDict_GetItemWithError(group, s_lr);
    if (!listed || !PyList_CheckExact(listed) || !number || !PyFloat_CheckExact(number)) return;
    parameters = Ref(PyList_GetSlice(listed, 0, PyList_Size(listed)));
    rate = held(number);
    first = held(group);
  }

  explicit operator bool() const { return parameters && rate; }
};

// The session's lock for a part of a visit in which the interpreter may be left to other threads: none of these comes in between. Nothing is handed
// over for it, and it counts as nobody's.
class HeldLock {
 public:
  HeldLock() = default;
  ~HeldLock() {
    if (!release_) return;
    PyObject *kind, *error, *trace;
    PyErr_Fetch(&kind, &error, &trace);
    call(release_);
    PyErr_Restore(kind, error, trace);
  }
  HeldLock(const HeldLock&) = delete;
  HeldLock& operator=(const HeldLock&) = delete;
  // False where another thread has it, which Python waits for.
  bool take(const Visits& own) {
    if (call(lock_of(own).acquire, Py_False).get() != Py_True) return false;
    release_ = lock_of(own).release;
    return true;
  }

 private:
  PyObject* release_ = nullptr;  // borrowed of the lock, which outlives its visits
};

// The gradients as `GradientReader.read_again` reads them, in a step whose gradients lie as they did.
class Reading {
 public:
  // Read them, with samples in one of ten steps; Python does it where it is time for sketches, or something of the samples is not as it was.
  Outcome read(Visits& own, PyObject* optimizer, const Ref& parameters, Event event);

  // Take what was read already; false where a number is not finite.
  bool take_over(const Visits& own);

  // Whether the numbers are new, and nobody has made an object of them.
  bool is_new() const { return !is_read_; }

  // An object of the new numbers, where Python has the losses.
  Ref made(const Visits& own) const { return made_reading(own, reading_, nullptr); }

  // Hand on the new numbers.
  HeardReading commit(Visits& own);

  // Leave the visit to Python, which is given what cannot be taken once more.
  Outcome give_up(Visits& own);

 private:
  bool prepare(const Visits& own, const Ref& parameters, bool samples);
  bool measure(const Visits& own, const Ref& gradients);
  bool sample(const Visits& own, const Ref& gradients, const Ref& weights);
  bool has_samples() const { return static_cast<bool>(reading_.exponents); }

  HeldLock lock_;  // of samples: which rows had a gradient is forgotten with them, so nothing may come in between that has them taken once more
  HeardReading reading_;
  Ref num_parameters_;
  double spent_s_ = 0;
  bool is_read_ = false;
};

}  // namespace seismograd
