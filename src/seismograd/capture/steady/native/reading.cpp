// The ready gradients of the only optimizer, read before its step or the clip of all of them.

#include "reading.hpp"

namespace seismograd {

namespace {

// Whether no model holds more parameters than before and none was frozen, as `ParameterTable.look_for_others` asks it.
bool has_no_others(const Visits& own) {
  const Ref models = get(own.table, s__models), listed = get(models, s__models), counted = get(models, s__num_held);
  bool are_same = is_empty(own.table, s__frozen) && listed && PyList_Check(listed.get()) && counted && PyDict_Check(counted.get());
  for (Py_ssize_t i = 0; are_same && i < PyList_Size(listed.get()); ++i) {
    const Ref reference = get(PyList_GetItem(listed.get(), i), s_module);
    const Ref module = reference ? held(referent(reference.get())) : Ref();
    if (!module) continue;
    PyObject* before = PyDict_GetItemWithError(counted.get(), boxed(static_cast<int64_t>(i)).get());  // borrowed
    int64_t num, num_before;
    are_same = before && take(held(before), &num_before) && take(call(own.num_parameters_below, module.get()), &num) && num == num_before;
  }
  return are_same && !PyErr_Occurred();
}

Ref new_array(const Visits& own, Py_ssize_t num_rows, Py_ssize_t num_columns) {
  const Ref arguments(Py_BuildValue("((nn))", num_rows, num_columns));
  return Ref(arguments ? PyObject_CallObject(own.new_array, arguments.get()) : nullptr);
}

}  // namespace

Outcome Reading::read(Visits& own, PyObject* optimizer, const Ref& parameters, Event event) {
  Known& known = *own.known;
  const bool is_sketched = known.sketch_every && known.num_steps % known.sketch_every == 0,
             is_tenth = known.num_steps % own.limits_.sample_every == 0;
  if (!is_sketched) {
    const bool is_sampled = is_tenth && own.sampling == Py_True && known.num_steps % known.sample_every == 0;
    if ((!is_tenth || (known.num_steps > 0 && has_no_others(own))) && prepare(own, parameters, is_sampled)) return Outcome::kYes;
    if (!is_tenth || has_samples()) return give_up(own);
    PyErr_Clear();
    reading_ = HeardReading();
  }
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

bool Reading::take_over(const Visits& own) {
  is_read_ = true;
  return own.known->has_ready && own.known->ready_used != Used::kOther;
}

HeardReading Reading::commit(Visits& own) {
  Known& known = *own.known;
  if (has_samples()) {
    known.sampled_s += spent_s_;
    known.num_sampled += 1;
  } else {
    known.plain_s += spent_s_;
    known.num_plain += 1;
  }
  known.ready_used = reading_.is_ordinary ? Used::kOrdinary : Used::kZeros;
  known.num_parameters = std::move(num_parameters_);
  known.has_read = known.is_heard = true;
  return std::move(reading_);
}

Outcome Reading::give_up(Visits& own) {
  Known& known = *own.known;
  if (is_read_ || !has_samples()) return Outcome::kNo;
  PyErr_Clear();
  if (is_as_asked(own) && !tell(own)) return Outcome::kBroken;
  if (!reading_.losses) reading_.losses = Ref(PyList_AsTuple(known.losses.get()));
  const Ref spent = held(own.spent), ready = reading_.losses && num_parameters_ ? made_reading(own, reading_, nullptr) : Ref();
  const bool is_done = ready && set(known.window, s_num_collectives, known.num_collectives) && set(known.window, s_num_parameters, num_parameters_) &&
                       set(spent, s_sampled_s, boxed(known.sampled_s + spent_s_)) && set(spent, s_num_sampled, known.num_sampled + 1) &&
                       set(known.window, s_ready, ready);
  known.num_taken = -1;
  return is_done ? Outcome::kNo : Outcome::kBroken;
}

bool Reading::prepare(const Visits& own, const Ref& parameters, bool samples) {
  const Known& known = *own.known;
  double began_s, ended_s;
  if (!is_empty(own.table, s_died) || !clock_s(own, &began_s)) return false;
  const Ref gradients = call(own.gradients, parameters.get(), known.ids.get());
  if (!gradients || gradients.get() == Py_None || PyList_Size(gradients.get()) != known.num_measured) return false;
  if (!known.has_loss) reading_.losses = known.losses ? Ref(PyList_AsTuple(known.losses.get())) : Ref(PyTuple_New(0));
  reading_.scale = held(known.grad_scale.get());
  reading_.loss_scale = held(known.loss_scale.get());
  num_parameters_ = known.num_parameters ? held(known.num_parameters.get()) : boxed(static_cast<int64_t>(PyList_Size(parameters.get())));
  if (!(known.has_loss || reading_.losses) || !num_parameters_) return false;
  if (!(samples ? sample(own, gradients, parameters) : measure(own, gradients)) || !clock_s(own, &ended_s)) return false;
  spent_s_ = ended_s - began_s;
  return true;
}

// Take the numbers of gradients; false where one is not finite.
bool Reading::measure(const Visits& own, const Ref& gradients) {
  const Known& known = *own.known;
  const Ref threads = call(own.num_threads);
  if (!threads || !set(known.table, s_pointers, own.pointers_not_known)) return false;
  const Ref found = call(own.measure, known.is_still_so.get(), gradients.get(), known.known_at.get(), known.entries_at.get(), own.entry_words,
                         known.kernel.get(), threads.get(), known.instructions.get(), own.num_numbers, own.norm, own.nonfinite);
  if (!found || !PyTuple_Check(found.get()) || PyTuple_Size(found.get()) != 2) return false;
  reading_.numbers = held(PyTuple_GetItem(found.get(), 0));
  reading_.is_ordinary = PyTuple_GetItem(found.get(), 1) == Py_True;
  return reading_.is_ordinary || used_of(own, reading_.numbers.get()) == Used::kZeros;
}

// Take them with samples, as `NativeBackend.sample_again`; false where nothing was measured.
bool Reading::sample(const Visits& own, const Ref& gradients, const Ref& weights) {
  const Known& known = *own.known;
  const Py_ssize_t n = PyList_Size(gradients.get());
  int64_t num_rows;
  if (!known.has_weights || PyList_Size(weights.get()) != n || !take(held(own.num_numbers), &num_rows)) return false;
  reading_.numbers = new_array(own, static_cast<Py_ssize_t>(num_rows), n);
  reading_.of_weights = new_array(own, static_cast<Py_ssize_t>(num_rows), n);
  const Ref exponents = new_array(own, n, static_cast<Py_ssize_t>(own.limits_.num_bins)), threads = call(own.num_threads);
  if (!reading_.numbers || !reading_.of_weights || !exponents || !threads || !set(known.table, s_pointers, own.pointers_not_known) ||
      !set(known.weights_table, s_pointers, own.pointers_not_known)) {
    return false;
  }
  const Ref ours(PyTuple_Pack(4, known.is_still_so.get(), gradients.get(), known.known_at.get(), known.entries_at.get())),
      theirs(PyTuple_Pack(4, known.weights_still_so.get(), weights.get(), known.weights_known_at.get(), known.weights_at.get()));
  if (!ours || !theirs || !lock_.take(own) || !is_as_asked(own)) return false;
  // from here on nothing is asked that could fail
  if (call(own.measure_sample, ours.get(), theirs.get(), own.entry_words, known.kernel.get(), threads.get(), known.instructions.get(),
           reading_.numbers.get(), reading_.of_weights.get(), exponents.get())
          .get() != Py_True) {
    return false;
  }
  reading_.exponents = held(exponents.get());
  const Used used = used_of(own, reading_.numbers.get());
  reading_.is_ordinary = used == Used::kOrdinary;
  return used != Used::kOther;
}

}  // namespace seismograd
