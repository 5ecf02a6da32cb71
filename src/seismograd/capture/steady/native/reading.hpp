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
  // Read them, in the second of ten steps behind a look for new parameters; or have Python read them, with samples in the first.
  Outcome read(Visits& own, PyObject* optimizer, const Ref& parameters, Event event) {
    const Known& known = *own.known;
    const bool is_sketched = known.sketch_every && known.num_steps % known.sketch_every == 0;
    const int64_t turn = known.num_steps % own.limits_.sample_every;
    const bool is_read = !is_sketched && turn != 0, looks = is_read && turn == 1;
    if (!is_read || looks) {
      const Outcome found =
          looks ? have_done(own, event, 1, {optimizer}) : have_done(own, event, 0, {optimizer, known.window.get(), parameters.get()});
      if (found != Outcome::kYes) return found;
    }
    if ((!looks && is_read) || ask_reading(own, *own.known)) {
      if (is_read ? prepare(own, parameters) : take_over(own)) return Outcome::kYes;
    } else {
      own.known->num_taken = -1;
    }
    return Outcome::kNo;
  }

  // Take what was read for a clip; false where one is not ordinary.
  bool take_over(const Visits& own) {
    reading_ = get(own.known->window, s_ready);
    is_read_ = true;
    return reading_ && reading_.get() != Py_None && is(reading_, s_is_ordinary, Py_True);
  }

  bool commit(Visits& own) const {
    if (is_read_) return true;
    Known& known = *own.known;
    known.plain_s += spent_s_;
    known.num_plain += 1;
    const Ref spent = held(own.spent);
    return set(known.window, s_num_collectives, known.num_collectives) && set(known.window, s_num_parameters, num_parameters_) &&
           set(known.window, s_ready, reading_) && set(spent, s_plain_s, boxed(known.plain_s)) && set(spent, s_num_plain, known.num_plain);
  }

  const Ref& reading() const { return reading_; }

 private:
  bool prepare(const Visits& own, const Ref& parameters) {
    const Known& known = *own.known;
    double began_s, ended_s;
    if (!is_empty(own.table, s_died) || !clock_s(own, &began_s)) return false;
    const Ref gradients = call(own.gradients, parameters.get(), known.ids.get());
    const Ref values = gradients && gradients.get() != Py_None ? measured(own, gradients) : Ref();
    const Ref losses = hidden(PyList_AsTuple(known.losses.get())), scale = get(known.window, s_grad_scale),
              loss_scale = get(known.window, s_loss_scale);
    num_parameters_ = boxed(static_cast<int64_t>(PyList_Size(parameters.get())));
    if (!values || !losses || !scale || !loss_scale || !num_parameters_) return false;
    reading_ = made(own.gradient_reading);
    if (!reading_ || !set(reading_, s_columns, known.positions) || !set(reading_, s_numels, known.numels) || !set(reading_, s_present, Py_None) ||
        !set(reading_, s_values, values) || !set(reading_, s_samples, own.no_samples) || !set(reading_, s_elements, own.no_elements) ||
        !set(reading_, s_scale, scale) || !set(reading_, s_losses, losses) || !set(reading_, s_loss_scale, loss_scale) ||
        !set(reading_, s_whole, known.whole) || !set(reading_, s_arrival, Py_None) || !set(reading_, s_is_unread, Py_False) ||
        !set(reading_, s_sketches, Py_None) || !set(reading_, s_is_ordinary, Py_True) || !clock_s(own, &ended_s)) {
      return false;
    }
    spent_s_ = ended_s - began_s;
    return true;
  }

  // The numbers of gradients that are all ordinary; else none.
  Ref measured(const Visits& own, const Ref& gradients) const {
    const Known& known = *own.known;
    const Ref threads = call(own.num_threads);
    if (PyList_Size(gradients.get()) != known.num_measured || !threads || !set(known.table, s_pointers, own.pointers_not_known)) return Ref();
    const Ref found = call(own.measure, known.is_still_so.get(), gradients.get(), known.known_at.get(), known.entries_at.get(), own.entry_words,
                           known.kernel.get(), threads.get(), known.instructions.get(), own.num_numbers, own.norm, own.nonfinite);
    if (!found || !PyTuple_Check(found.get()) || PyTuple_Size(found.get()) != 2 || PyTuple_GetItem(found.get(), 1) != Py_True) return Ref();
    Ref values = made(own.number_table);
    const bool is_made = values && set(values, s_num_rows, own.num_numbers) && set(values, s_places, own.places) &&
                         set(values, s_kept, PyTuple_GetItem(found.get(), 0));
    return is_made ? std::move(values) : Ref();
  }

  Ref reading_, num_parameters_;
  double spent_s_ = 0;
  bool is_read_ = false;
};

}  // namespace seismograd
