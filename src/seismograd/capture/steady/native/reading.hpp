// The ready gradients of the only optimizer, read before its step or the clip of all of them.

#pragma once

#include "visits.hpp"

namespace seismograd {

// The parameters of the only group of an optimizer, and its rate, where these are what nearly all optimizers have.
struct Group {
  Ref parameters, rate;

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
  }

  explicit operator bool() const { return parameters && rate; }
};

// The gradients as `GradientReader.read_again` reads them, in a step without samples whose gradients lie as they did.
class Reading {
 public:
  // Read them, or have Python read them with samples in one of ten steps.
  Outcome read(Visits& own, PyObject* optimizer, const Ref& parameters, Event event) {
    Known& known = *own.known;
    const bool is_sketched = known.sketch_every && known.num_steps % known.sketch_every == 0;
    if (!is_sketched && known.num_steps % own.limits_.sample_every != 0) return prepare(own, parameters) ? Outcome::kYes : Outcome::kNo;
    if (!tell(own)) return Outcome::kBroken;
    const Outcome found = have_done(own, event, 0, {optimizer, known.window.get(), parameters.get()});
    if (found != Outcome::kYes) return found;
    known.num_parameters = Ref();
    if (!ask_reading(own, known)) {
      known.num_taken = -1;
      return Outcome::kNo;
    }
    known.ready = get(known.window, s_ready);
    known.has_ready = known.ready && known.ready.get() != Py_None;
    known.ready_used = used_of(own, known.ready);
    return take_over(own) ? Outcome::kYes : Outcome::kNo;
  }

  // Take what was read already; false where a number is not finite.
  bool take_over(const Visits& own) {
    is_read_ = true;
    return own.known->has_ready && own.known->ready_used != Used::kOther;
  }

  // Whether the numbers are new, and nobody has made an object of them.
  bool is_new() const { return !is_read_; }

  // Hand on the new numbers.
  HeardReading commit(Visits& own) {
    Known& known = *own.known;
    known.plain_s += spent_s_;
    known.num_plain += 1;
    known.ready_used = reading_.is_ordinary ? Used::kOrdinary : Used::kZeros;
    known.num_parameters = std::move(num_parameters_);
    known.has_read = known.is_heard = true;
    return std::move(reading_);
  }

 private:
  bool prepare(const Visits& own, const Ref& parameters) {
    const Known& known = *own.known;
    double began_s, ended_s;
    if (!is_empty(own.table, s_died) || !clock_s(own, &began_s)) return false;
    const Ref gradients = call(own.gradients, parameters.get(), known.ids.get());
    if (!gradients || gradients.get() == Py_None || !measure(own, gradients)) return false;
    if (!known.has_loss) reading_.losses = known.losses ? Ref(PyList_AsTuple(known.losses.get())) : Ref(PyTuple_New(0));
    reading_.scale = held(known.grad_scale.get());
    reading_.loss_scale = held(known.loss_scale.get());
    num_parameters_ = known.num_parameters ? held(known.num_parameters.get()) : boxed(static_cast<int64_t>(PyList_Size(parameters.get())));
    if (!(known.has_loss || reading_.losses) || !num_parameters_ || !clock_s(own, &ended_s)) return false;
    spent_s_ = ended_s - began_s;
    return true;
  }

  // Take the numbers of gradients; false where one is not finite.
  bool measure(const Visits& own, const Ref& gradients) {
    const Known& known = *own.known;
    const Ref threads = call(own.num_threads);
    if (PyList_Size(gradients.get()) != known.num_measured || !threads || !set(known.table, s_pointers, own.pointers_not_known)) return false;
    const Ref found = call(own.measure, known.is_still_so.get(), gradients.get(), known.known_at.get(), known.entries_at.get(), own.entry_words,
                           known.kernel.get(), threads.get(), known.instructions.get(), own.num_numbers, own.norm, own.nonfinite);
    if (!found || !PyTuple_Check(found.get()) || PyTuple_Size(found.get()) != 2) return false;
    reading_.numbers = held(PyTuple_GetItem(found.get(), 0));
    reading_.is_ordinary = PyTuple_GetItem(found.get(), 1) == Py_True;
    return reading_.is_ordinary || used_of(own, reading_.numbers.get()) == Used::kZeros;
  }

  HeardReading reading_;
  Ref num_parameters_;
  double spent_s_ = 0;
  bool is_read_ = false;
};

}  // namespace seismograd
