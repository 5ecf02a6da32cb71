// Make objects of what was heard, as Python makes them, and tell the session where the loop is.

#include "heard.hpp"

#include <algorithm>

#include "visits.hpp"

namespace seismograd {

namespace {

bool make_zero_grad(const Visits& own, const HeardCall& call, const Ref& events) {
  const Known& known = *own.known;
  const Ref event =
      made_event(own, call, {own.kind_zero_grad, known.index.get(), own.by_optimizer, own.not_known, own.not_known, Py_None, known.bit_number});
  return event && PyList_Append(events.get(), event.get()) == 0;
}

bool make_backward(const Visits& own, HeardBackward& call, const Ref& events) {
  call.loss = known_scalar(own, call.number.get(), call.is_used);
  if (!call.loss) return false;
  call.captured = made_event(own, call, {own.kind_backward, own.minus_one, own.zero, call.loss.get(), own.not_known, call.scale.get(), call.touched});
  return call.captured && (!call.reduction || set(call.captured, s_reduction, call.reduction)) &&
         PyList_Append(events.get(), call.captured.get()) == 0;
}

// The numbers of what was read, as `NativeBackend.measure_again` gives them.
Ref number_table(const Visits& own, const Ref& numbers) {
  Ref values = made(own.number_table);
  const bool is_made = values && set(values, s_num_rows, own.num_numbers) && set(values, s_places, own.places) && set(values, s_kept, numbers);
  return is_made ? std::move(values) : Ref();
}

// What else was taken in a step with samples, as `NativeBackend.sample_again` gives it.
Ref made_samples(const Visits& own, const HeardReading& reading) {
  const Ref norms(PyObject_GetItem(reading.of_weights.get(), own.norm)), rows(PyObject_GetItem(reading.numbers.get(), own.dead_rows));
  Ref samples(norms && rows ? PyDict_New() : nullptr);
  const bool is_made = samples && PyDict_SetItem(samples.get(), s_weight_norm, norms.get()) == 0 &&
                       PyDict_SetItem(samples.get(), s_dead_rows, rows.get()) == 0 &&
                       PyDict_SetItem(samples.get(), s_exponents, reading.exponents.get()) == 0;
  return is_made ? std::move(samples) : Ref();
}

bool make_step(const Visits& own, HeardStep& call, const Ref& loss, const Ref& events, const Ref& steps) {
  const Known& known = *own.known;
  if (!call.ready) call.ready = made_reading(own, call.reading, loss.get());
  const Ref no_clips(call.clips ? nullptr : PyTuple_New(0));
  call.captured =
      made_event(own, call, {own.kind_step, known.index.get(), own.zero, call.rate.get(), call.rate.get(), call.scale.get(), known.bit_number});
  call.step = made(own.optimizer_step);
  const Ref& step = call.step;
  return call.ready && call.captured && step && set(step, s_optimizer, known.index) && set(step, s_number, call.number) &&
         set(step, s_lr, call.rate) && set(step, s_num_backwards, call.num_backwards) && set(step, s_flags, own.step_flag_none) &&
         set(step, s_carried, own.no_columns) && set(step, s_clips, call.clips ? call.clips : no_clips) && set(step, s_reading, call.ready) &&
         set(step, s_applied, Py_None) && set(step, s_probed, call.probed ? call.probed.get() : Py_None) &&
         PyList_Append(steps.get(), step.get()) == 0 && PyList_Append(events.get(), call.captured.get()) == 0;
}

// A new iteration, as `IterationQueue.end_iteration` makes it.
Ref made_iteration(const Visits& own) {
  Ref iteration = made(own.iteration);
  const Ref events = hidden(PyList_New(0)), steps = hidden(PyList_New(0)), compared = hidden(PyList_New(0)), no_parameters(PyTuple_New(0));
  const bool is_made = iteration && set(iteration, s_events, events) && set(iteration, s_steps, steps) && set(iteration, s_compared, compared) &&
                       set(iteration, s_number, own.minus_one) && set(iteration, s_parameters, no_parameters) && set(iteration, s_epoch, Py_None) &&
                       set(iteration, s_ended_s, own.nan);
  return is_made ? std::move(iteration) : Ref();
}

// Make what an iteration has heard.
bool make(const Visits& own, HeardIteration& iteration) {
  if (!iteration.object) iteration.object = made_iteration(own);
  const Ref events = get(iteration.object, s_events), steps = get(iteration.object, s_steps);
  bool is_made =
      events && steps && PyList_Check(events.get()) && PyList_Check(steps.get()) && set(iteration.object, s_overhead_s, boxed(iteration.overhead_s));
  for (int i = 0; is_made && i < iteration.num_heard; ++i) {
    switch (iteration.order[static_cast<size_t>(i)]) {
      case Heard::kZeroGrad:
        is_made = make_zero_grad(own, iteration.zero_grad, events);
        break;
      case Heard::kBackward:
        is_made = make_backward(own, iteration.backward, events);
        break;
      default:
        is_made = make_step(own, iteration.step, iteration.backward.loss, events, steps);
    }
  }
  if (iteration.step.is_ended && iteration.step.ready) own.known->last = held(iteration.step.ready.get());
  return is_made;
}

// Have the finished iterations wait for their rows.
bool finish(const Visits& own) {
  Known& known = *own.known;
  std::vector<HeardIteration> finished;
  finished.swap(known.finished);
  for (HeardIteration& each : finished) {
    if (!make(own, each)) return false;
    const Ref& object = each.object;
    const Ref ended = boxed(each.ended_s);
    if (own.budget != Py_None) {
      const Ref cost(PyTuple_Pack(2, ended.get(), boxed(each.overhead_s).get()));
      if (!cost || !Ref(PyObject_CallMethodObjArgs(known.judged.get(), s_append, cost.get(), nullptr))) return false;
    }
    if (!set(object, s_parameters, known.columns) || !set(object, s_epoch, each.epoch.get() == Py_None ? known.epoch : each.epoch) ||
        !set(object, s_number, each.number) || !set(object, s_ended_s, ended) || PyList_Append(known.waiting.get(), object.get()) < 0) {
      return false;
    }
  }
  return true;
}

// Make what the running iteration has heard; what stands in it is Python's from now on.
bool make_running(const Visits& own) {
  Known& known = *own.known;
  HeardIteration& running = known.iteration;
  if (!make(own, running)) return false;
  if (running.has(Heard::kStep) && known.is_stepping) {
    known.step = held(running.step.step.get());
    known.step_heard = held(running.step.captured.get());
    known.ready = held(running.step.ready.get());
  }
  if (known.is_in_backward) {
    known.loss = held(running.backward.loss.get());
    known.captured = held(running.backward.captured.get());
  }
  bool is_made = true;
  if (known.has_loss) {
    if (!known.losses) known.losses = Ref(PyList_New(0));
    is_made = known.losses && PyList_Append(known.losses.get(), running.backward.loss.get()) == 0;
  }
  if (known.has_site) {
    if (!known.sites) known.sites = Ref(PyList_New(0));
    is_made = is_made && known.sites && PyList_Append(known.sites.get(), running.backward.site.get()) == 0;
  }
  known.is_in_backward = known.has_loss = known.has_site = false;
  running.num_heard = 0;
  return is_made;
}

bool tell_window(const Visits& own) {
  Known& known = *own.known;
  const Ref& window = known.window;
  for (Ref* each : {&known.losses, &known.clips, &known.sites}) {
    if (!*each) *each = Ref(PyList_New(0));
    if (!*each) return false;
  }
  bool is_told = set(window, s_losses, known.losses) && set(window, s_clips, known.clips) && set(window, s_num_backwards, known.num_backwards) &&
                 set(window, s_num_heard, known.num_heard) && set(window, s_ready, known.ready) && set(window, s_grad_scale, known.grad_scale) &&
                 set(window, s_loss_scale, known.loss_scale) && set(window, s_stepping, truth(known.is_stepping)) &&
                 set(window, s_step, known.step) && set(window, s_step_heard, known.step_heard) &&
                 set(window, s_last_operation, known.last_operation) && (known.has_applied || set(window, s_applied, Py_None));
  if (is_told && known.has_begun) {
    is_told = set(window, s_steps_within, own.zero) && set(window, s_closure, Py_False) && set(window, s_was_stepped, Py_True) &&
              set(known.probe, s__num_steps, known.num_probed_steps) && set(known.probe, s__due, known.probe_due) &&
              set(held(own.step_visit), s__lr, known.lr) && set(held(own.step_visit), s__rate, known.rate);
  }
  if (is_told && known.has_ended) {
    is_told = set(window, s_cleared_within, Py_False) && set(window, s_num_steps, known.num_steps) &&
              set(window, s_num_backwards_before, known.num_heard_before) &&
              (!known.last_step_site || set(window, s_last_step_site, known.last_step_site));
  }
  if (is_told && known.has_read) {
    is_told = set(window, s_num_collectives, known.num_collectives) && set(window, s_num_parameters, known.num_parameters) &&
              set(held(own.spent), s_plain_s, boxed(known.plain_s)) && set(held(own.spent), s_num_plain, known.num_plain) &&
              set(held(own.spent), s_sampled_s, boxed(known.sampled_s)) && set(held(own.spent), s_num_sampled, known.num_sampled);
  }
  if (is_told) is_told = tell_probe(own) && tell_followed(own);
  if (is_told && known.last) is_told = set(window, s_last, known.last);
  known.last = Ref();
  known.last_step_site = Ref();
  known.has_begun = known.has_ended = known.has_read = false;
  return is_told && set(known.per_loss, s_sites, known.sites) && set(known.per_loss, s__same_forward, truth(!known.are_parted)) &&
         set(known.per_loss, s_is_clear, truth(known.is_clear));
}

bool tell_others(const Visits& own) {
  const Known& known = *own.known;
  const Ref last = listed(known.marks_last), before = known.marks_before == known.marks_last ? held(last.get()) : listed(known.marks_before);
  return last && before && set(known.clearing, s_last, last) && set(known.clearing, s_before, before) &&
         set(known.clearing, s_is_used, truth(known.is_used)) && set(known.state, s_loss, known.loss) &&
         set(known.state, s_captured, known.captured) && set(known.state, s_loss_scale, known.next_scale) &&
         set(known.state, s_last_operation, known.operation) && set(known.state, s_iteration, known.iteration.object) &&
         set(known.state, s_now_s, boxed(known.now_s)) && set(held(own.backwards), s_num_heard, known.num_heard_in_all) &&
         set(held(own.observer), s__num, known.num_observed) && set(held(own.iteration_queue), s_num_rows, known.num_rows) &&
         (own.budget == Py_None || set(held(own.budget), s__num_steps, known.num_budgeted)) &&
         (!known.num_zeros || (PyDict_SetItem(known.zeros.get(), known.index.get(), boxed(known.num_zeros).get()) == 0 &&
                               PyDict_SetItem(known.flat.get(), known.index.get(), boxed(known.num_flat).get()) == 0)) &&
         (known.num_at_site < 0 || PyDict_SetItem(known.at_site.get(), known.backward_site.get(), boxed(known.num_at_site).get()) == 0);
}

}  // namespace

Ref made_event(const Visits& own, const HeardCall& call, const EventNumbers& numbers) {
  Ref event = made(own.captured_event);
  const bool is_made = event && set(event, s_kind, numbers.kind) && set(event, s_time_s, boxed(call.time_s - own.known->start_s)) &&
                       set(event, s_site, call.site) && set(event, s_optimizer, numbers.optimizer) && set(event, s_detail, numbers.detail) &&
                       set(event, s_value, numbers.value) && set(event, s_limit, numbers.limit) && set(event, s_scale, numbers.scale) &&
                       set(event, s_reduction, Py_None) && set(event, s_touched, numbers.touched) && set(event, s_flags, call.flags) &&
                       set(event, s_unclaimed, Py_False);
  return is_made ? std::move(event) : Ref();
}

bool Marks::are_none() const {
  return std::all_of(each.begin(), each.end(), [](const Mark& mark) { return mark.gradient == nullptr; });
}

bool take(const Ref& listed, Marks* marks) {
  if (!listed || !PyList_Check(listed.get())) return false;
  const Py_ssize_t n = PyList_Size(listed.get());
  marks->each.assign(static_cast<size_t>(n), Mark());
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* one = PyList_GetItem(listed.get(), i);
    if (one == Py_None) continue;
    if (!PyTuple_Check(one) || PyTuple_Size(one) != 2) return false;
    Mark& mark = marks->each[static_cast<size_t>(i)];
    mark.gradient = static_cast<PyObject*>(PyLong_AsVoidPtr(PyTuple_GetItem(one, 0)));
    if (PyErr_Occurred() || !take(held(PyTuple_GetItem(one, 1)), &mark.version)) return false;
  }
  return true;
}

Ref listed(const Marks& marks) {
  Ref found(PyList_New(static_cast<Py_ssize_t>(marks.each.size())));
  Py_ssize_t i = 0;
  for (const Mark& each : marks.each) {
    if (!found) break;
    Ref mark = held(Py_None);
    if (each.gradient) {
      const Ref id(PyLong_FromVoidPtr(each.gradient)), version = boxed(each.version);
      mark = Ref(id && version ? PyTuple_Pack(2, id.get(), version.get()) : nullptr);
    }
    if (!mark || PyList_SetItem(found.get(), i++, mark.release()) < 0) return Ref();
  }
  return found;
}

bool HeardIteration::has(Heard call) const { return std::find(order.begin(), order.begin() + num_heard, call) != order.begin() + num_heard; }

Ref made_reading(const Visits& own, const HeardReading& reading, PyObject* loss) {
  const Known& known = *own.known;
  const Ref values = number_table(own, reading.numbers), its_loss(reading.losses ? nullptr : PyTuple_Pack(1, loss));
  const Ref samples = reading.exponents ? made_samples(own, reading) : held(own.no_samples);
  Ref found = made(own.gradient_reading);
  const bool is_made = values && samples && (reading.losses || its_loss) && found && set(found, s_columns, known.positions) &&
                       set(found, s_numels, known.numels) && set(found, s_present, Py_None) && set(found, s_values, values) &&
                       set(found, s_samples, samples) && set(found, s_elements, own.no_elements) && set(found, s_scale, reading.scale) &&
                       set(found, s_losses, hidden(reading.losses ? held(reading.losses.get()).release() : held(its_loss.get()).release())) &&
                       set(found, s_loss_scale, reading.loss_scale) && set(found, s_whole, known.whole) && set(found, s_arrival, Py_None) &&
                       set(found, s_is_unread, Py_False) && set(found, s_sketches, Py_None) && set(found, s_is_ordinary, truth(reading.is_ordinary));
  return is_made ? std::move(found) : Ref();
}

bool tell(Visits& own) {
  Known& known = *own.known;
  if (!known.is_heard) return true;
  known.is_heard = false;
  return make_running(own) && tell_window(own) && tell_others(own);
}

bool hand_over(Visits& own) {
  Known& known = *own.known;
  if (!known.is_heard && known.finished.empty()) return true;
  if (own.rare_thread == PyThread_get_thread_ident()) return tell(own);
  const HeardStep& running = known.iteration.step;
  const bool are_finished = known.finished.empty() || finish(own);
  if (running.is_ended && running.ready) known.last = held(running.ready.get());
  const bool is_told = tell(own);
  return are_finished && is_told && (!known.last || set(known.window, s_last, std::exchange(known.last, Ref())));
}

}  // namespace seismograd
