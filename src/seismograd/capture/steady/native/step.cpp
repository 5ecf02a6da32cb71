// A step of the only optimizer on the gradients of its last backward, as `StepVisit` has it.

#include <algorithm>

#include "reading.hpp"

namespace seismograd {

namespace {

// The calls of models that are no longer held, as `HeldCalls.drop` lets go of them.
class DroppedCalls {
 public:
  bool prepare(const Visits& own, const Ref& parameters) {
    const Known& known = *own.known;
    const Ref listed = known.calls.get() == Py_None ? Ref() : get(known.calls, s_calls);
    if (!listed || PyObject_Size(listed.get()) == 0) return !PyErr_Occurred();
    PyObject* first = PyList_Size(parameters.get()) ? PyList_GetItem(parameters.get(), 0) : nullptr;
    const Ref id(first ? PyLong_FromVoidPtr(first) : nullptr);
    kept_ = Ref(PyList_New(0));
    if (!PyList_Check(listed.get()) || !kept_ || !id) return false;
    for (Py_ssize_t i = 0; i < PyList_Size(listed.get()); ++i) {
      const Ref each = held(PyList_GetItem(listed.get(), i)), reference = get(each, s_model);
      const Ref model = reference ? call(reference.get()) : Ref();
      if (!model) return false;
      if (model.get() == Py_None) continue;
      const Ref key(PyLong_FromVoidPtr(model.get()));
      PyObject* its = key ? PyDict_GetItemWithError(known.parameters_by_model.get(), key.get()) : nullptr;  // borrowed
      const int holds = its ? PySet_Contains(its, id.get()) : 0;
      if (holds < 0 || (!holds && PyList_Append(kept_.get(), each.get()) < 0)) return false;
    }
    return true;
  }

  bool commit(const Visits& own) const { return !kept_ || set(own.known->calls, s_calls, kept_); }

 private:
  Ref kept_;
};

// How many parameters are probed in this step, as `UpdateProbe.num_requested` says, and what is due then.
int64_t num_probed(const Visits& own, int64_t num_parameters, int64_t* due) {
  const Limits& limits = own.limits_;
  *due = std::min(own.known->probe_due + num_parameters, limits.most_turns * limits.turn_every);
  if (*due < std::min(num_parameters, limits.fewest_turns) * limits.turn_every) return 0;
  const int64_t num = *due / limits.turn_every;
  *due %= limits.turn_every;
  return num;
}

// The event and the record of a step that begins, as `StepVisit` makes them.
class BegunStep {
 public:
  bool prepare(const Visits& own, const Moment& now, const Ref& site, const Ref& rate, const Ref& reading) {
    const Known& known = *own.known;
    rate_ = held(rate.get());
    lr_ = is(own.step_visit, s__rate, rate.get()) ? get(own.step_visit, s__lr) : known_scalar(own, rate.get());
    const Ref scale = get(known.window, s_grad_scale), clips = get(known.window, s_clips);
    const Ref all_clips(clips && PyList_Check(clips.get()) ? PyList_AsTuple(clips.get()) : nullptr);
    steps_ = get(now.iteration, s_steps);
    events_ = get(now.iteration, s_events);
    if (!lr_ || !scale || !all_clips || !events_ || !steps_ || !PyList_Check(steps_.get()) || PyList_Size(steps_.get()) != 0 ||
        !has_room(own, now.iteration)) {
      return false;
    }
    captured_ = captured_call(own, now, own.kind_step, own.zero, site, {known.index.get(), lr_.get(), lr_.get(), scale.get(), 0, known.bit.get()});
    step_ = made(own.optimizer_step);
    return captured_ && step_ && set(step_, s_optimizer, known.index) && set(step_, s_number, known.num_steps) && set(step_, s_lr, lr_) &&
           set(step_, s_num_backwards, known.num_backwards) && set(step_, s_flags, own.step_flag_none) && set(step_, s_carried, own.no_columns) &&
           set(step_, s_clips, all_clips) && set(step_, s_reading, reading) && set(step_, s_applied, Py_None) && set(step_, s_probed, Py_None);
  }

  bool commit(Visits& own) const {
    const Ref visit = held(own.step_visit);
    const Known& known = *own.known;
    return set(visit, s__lr, lr_) && set(visit, s__rate, rate_) && PyList_Append(events_.get(), captured_.get()) == 0 &&
           set(known.window, s_was_stepped, Py_True) && PyList_Append(steps_.get(), step_.get()) == 0 && set(known.window, s_step, step_) &&
           set(known.window, s_step_heard, captured_);
  }

 private:
  Ref rate_, lr_, steps_, events_, captured_, step_;
};

// Whether each clip of the window was one of all its gradients by their norm, and none has left any out before, as `ClipCoverage` asks it.
bool are_whole(const Visits& own) {
  const Known& known = *own.known;
  const Ref clips = get(known.window, s_clips), reported = get(own.coverage, s__reported);
  if (!clips || !PyList_Check(clips.get()) || !reported || !PyDict_Check(reported.get())) return false;
  PyObject* left_out = PyDict_GetItemWithError(reported.get(), known.index.get());  // borrowed
  bool are_all = !left_out || PyObject_Size(left_out) == 0;
  for (Py_ssize_t i = 0; are_all && i < PyList_Size(clips.get()); ++i) {
    const Ref clip = held(PyList_GetItem(clips.get(), i)), columns = get(clip, s_columns);
    are_all = is(clip, s_by_norm, Py_True) && columns && PyObject_Size(columns.get()) == PyList_Size(known.ids.get());
  }
  return are_all && PyList_Size(known.ids.get()) > 0;
}

// What `OptimizerWindow.restart` sets, but for what is so already.
bool restart(Visits& own, const Ref& step_heard) {
  Known& known = *own.known;
  const Ref &window = known.window, clips(PyList_New(0));
  Ref losses(PyList_New(0));
  const bool is_done = losses && clips && set(window, s_last_step_site, get(step_heard, s_site)) && set(window, s_ready, Py_None) &&
                       set(window, s_num_backwards, own.zero) && set(window, s_num_heard, own.zero) && set(window, s_losses, losses) &&
                       set(window, s_grad_scale, Py_None) && set(window, s_loss_scale, Py_None) && set(window, s_clips, clips) &&
                       set(window, s_stepping, Py_False) && set(window, s_step, Py_None) && set(window, s_step_heard, Py_None) &&
                       set(window, s_cleared_within, Py_False) && set(window, s_evaluates_again, Py_False) &&
                       set(window, s_last_operation, own.minus_one);
  known.losses = std::move(losses);
  known.num_backwards = known.num_heard = 0;
  known.last_operation = -1;
  known.is_stepping = known.has_ready = known.has_clips = false;
  return is_done;
}

}  // namespace

Outcome step_begins(Visits& own, const Moment& now, PyObject* optimizer, PyObject* closure, PyObject* compiled) {
  Known& known = *own.known;
  const Limits& limits = own.limits_;
  const bool is_sampling = own.sampling == Py_True;
  if (closure != Py_False || compiled != Py_False || known.is_stepping || known.loss.get() != Py_None || known.is_clipping || known.is_used ||
      (is_sampling && known.num_probed_steps < limits.dense) || known.num_steps <= limits.last_early ||
      known.num_steps % limits.state_every == limits.state_first || (known.has_clips && !are_whole(own)) || !was_ordinary(known) ||
      !is_only(own, optimizer)) {
    return Outcome::kNo;
  }
  const Ref marks = marks_of(own);
  if (!marks || !are_equal(marks, get(known.clearing, s_last)) || are_equal(marks, known.none)) return Outcome::kNo;
  const Group group(optimizer);
  const Ref site = site_here(own);
  int64_t due = 0;
  DroppedCalls dropped;
  Reading reading;
  BegunStep begun;
  if (!group || !site || call(own.unchanged, known.followed_slices.get()).get() != Py_True || !dropped.prepare(own, group.parameters)) {
    return Outcome::kNo;
  }
  const Outcome read = !known.has_ready         ? reading.read(own, optimizer, group.parameters, kStepBegins)
                       : reading.take_over(own) ? Outcome::kYes
                                                : Outcome::kNo;
  if (read != Outcome::kYes) return read;
  if (!begun.prepare(own, now, site, group.rate, reading.reading()) || !is_as_asked(own)) {
    return Outcome::kNo;
  }
  const int64_t num = is_sampling ? num_probed(own, PyList_Size(group.parameters.get()), &due) : 0;
  known.is_stepping = known.has_ready = true;
  if (is_sampling) {
    known.num_probed_steps += 1;
    known.probe_due = due;
  }
  known.is_probed = false;
  Outcome found =
      outcome(set(known.window, s_steps_within, own.zero) && set(known.window, s_stepping, Py_True) && set(known.window, s_closure, Py_False) &&
              reading.commit(own) && PyList_SetSlice(known.operands.get(), 0, PyList_Size(known.operands.get()), nullptr) == 0 &&
              dropped.commit(own) && begun.commit(own) && set(known.probe, s_pending, Py_None) &&
              set(known.probe, s__num_steps, known.num_probed_steps) && set(known.probe, s__due, known.probe_due));
  if (found == Outcome::kYes && num) {
    known.is_probed = true;
    found = have_done(own, kStepBegins, 2, {optimizer, known.window.get(), group.parameters.get(), boxed(num).get()});
  }
  if (found == Outcome::kYes && known.num_steps % limits.sample_every == 0) found = have_done(own, kStepBegins, 3, {optimizer});
  return found;
}

Outcome step_ends(Visits& own, const Moment&, PyObject* optimizer) {
  Known& known = *own.known;
  int64_t num_within;
  bool is_unusual = !known.is_stepping || !known.has_ready || known.has_carried || !is_only(own, optimizer) || PyList_Size(known.sites.get()) > 1 ||
                    known.num_rows + 1 >= known.xray_due || !take(known.window, s_steps_within, &num_within) || num_within ||
                    !is(known.window, s_is_left_out, Py_False) || !is(known.window, s_evaluated, Py_False) || !is(known.window, s_closure, Py_False);
  if (is_unusual) return Outcome::kNo;
  const Ref ready = get(known.window, s_ready), step = get(known.window, s_step), step_heard = get(known.window, s_step_heard);
  int64_t before;
  if (!ready || ready.get() == Py_None || !step || step.get() == Py_None || !step_heard || step_heard.get() == Py_None ||
      !is(step, s_applied, Py_None) || !take(step, s_num_backwards, &before)) {
    return Outcome::kNo;
  }
  const Ref marks = marks_of(own), clips = get(known.window, s_clips);
  const Ref all_clips(clips && PyList_Check(clips.get()) ? PyList_AsTuple(clips.get()) : nullptr);
  Ref no_sites(PyList_New(0));
  if (!marks || !all_clips || !no_sites || !is_as_asked(own) || call(own.keep, known.followed_slices.get()).get() != Py_True) return Outcome::kNo;
  known.num_steps += 1;
  known.num_heard_before = known.num_heard;
  bool is_done = set(step, s_probed, Py_None) && set(step, s_reading, ready) && set(step, s_clips, all_clips) &&
                 (before >= known.num_backwards || set(step, s_num_backwards, known.num_backwards)) && set(known.per_loss, s_sites, no_sites) &&
                 set(known.per_loss, s_is_clear, Py_True) && set(known.window, s_num_steps, known.num_steps) &&
                 set(known.window, s_was_stepped, Py_True) && set(known.window, s_num_backwards_before, known.num_heard_before);
  for (Py_ssize_t i = 0; is_done && i < PyList_Size(known.losses.get()); ++i) {
    is_done = set(held(PyList_GetItem(known.losses.get(), i)), s_used, Py_True);
  }
  is_done = is_done && set(known.window, s_last, ready) && set(known.clearing, s_is_used, Py_True) && set(known.clearing, s_last, marks) &&
            restart(own, step_heard);
  known.sites = std::move(no_sites);
  known.is_used = true;
  if (!is_done || !known.is_probed) return outcome(is_done);
  known.is_probed = false;
  return have_done(own, kStepEnds, 0, {optimizer, known.window.get(), step.get()});
}

}  // namespace seismograd
