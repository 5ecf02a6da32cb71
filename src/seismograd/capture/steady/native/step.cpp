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
      PyObject* model = reference ? referent(reference.get()) : nullptr;
      if (PyErr_Occurred()) return false;
      if (!model) continue;
      const Ref key(PyLong_FromVoidPtr(model));
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
  *due = own.known->probe_due;
  if (own.known->num_probed_steps + 1 <= limits.dense)
    return std::min((num_parameters + limits.turn_every - 1) / limits.turn_every, limits.most_turns);
  *due = std::min(own.known->probe_due + num_parameters, limits.most_turns * limits.turn_every);
  if (*due < std::min(num_parameters, limits.fewest_turns) * limits.turn_every) return 0;
  const int64_t num = *due / limits.turn_every;
  *due %= limits.turn_every;
  return num;
}

// Whether each clip of the window was one of all its gradients by their norm, and none has left any out before, as `ClipCoverage` asks it.
bool are_whole(const Visits& own) {
  const Known& known = *own.known;
  const Ref& clips = known.clips;
  const Ref reported = get(own.coverage, s__reported);
  if (!clips || !reported || !PyDict_Check(reported.get())) return false;
  PyObject* left_out = PyDict_GetItemWithError(reported.get(), known.index.get());  // borrowed
  bool are_all = !left_out || PyObject_Size(left_out) == 0;
  for (Py_ssize_t i = 0; are_all && i < PyList_Size(clips.get()); ++i) {
    const Ref clip = held(PyList_GetItem(clips.get(), i)), columns = get(clip, s_columns);
    are_all = is(clip, s_by_norm, Py_True) && columns && PyObject_Size(columns.get()) == PyList_Size(known.ids.get());
  }
  return are_all && PyList_Size(known.ids.get()) > 0;
}

bool has_clips(const Known& known) { return known.clips && PyList_Size(known.clips.get()) != 0; }

// Have the rate of the step at hand, as a number that is known.
bool remember_rate(const Visits& own, const Ref& rate) {
  Known& known = *own.known;
  if (known.lr && known.rate.get() == rate.get()) return true;
  const bool is_of_python = is(own.step_visit, s__rate, rate.get());
  known.lr = is_of_python ? get(own.step_visit, s__lr) : known_scalar(own, rate.get());
  known.rate = held(rate.get());
  return static_cast<bool>(known.lr);
}

// Have objects tell the end of a step that Python has begun.
bool end_begun_by_python(const Visits& own) {
  const Known& known = *own.known;
  int64_t before;
  const Ref clips(known.clips ? PyList_AsTuple(known.clips.get()) : PyTuple_New(0));
  bool is_done = clips && take(known.step, s_num_backwards, &before) && set(known.step, s_probed, Py_None) &&
                 set(known.step, s_reading, known.ready) && set(known.step, s_clips, clips) &&
                 (before >= known.num_backwards || set(known.step, s_num_backwards, known.num_backwards));
  for (Py_ssize_t i = 0; is_done && known.losses && i < PyList_Size(known.losses.get()); ++i) {
    is_done = set(held(PyList_GetItem(known.losses.get(), i)), s_used, Py_True);
  }
  return is_done;
}

// Whether the losses of the window are to be told apart, as `PerLossGradients.step_ends` asks it.
bool are_compared(const Known& known) {
  const Py_ssize_t num = (known.sites ? PyList_Size(known.sites.get()) : 0) + (known.has_site ? 1 : 0);
  if (num < 2) return false;
  if (!known.are_parted || known.has_site) return true;  // Python asks
  const Ref lines(PySet_New(known.sites.get()));
  return !lines || PySet_Size(lines.get()) == num;
}

// As `OptimizerWindow.restart`.
void restart(Known& known, Ref site) {
  known.last_step_site = std::move(site);
  known.losses = Ref();
  known.clips = Ref();
  known.ready = held(Py_None);
  known.step = held(Py_None);
  known.step_heard = held(Py_None);
  known.grad_scale = held(Py_None);
  known.loss_scale = held(Py_None);
  known.num_backwards = known.num_heard = 0;
  known.last_operation = -1;
  known.has_loss = known.is_stepping = known.has_ready = false;
  known.sites = Ref();
  known.has_site = known.are_parted = false;
  known.is_clear = true;
}

}  // namespace

Outcome step_begins(Visits& own, PyObject* optimizer, PyObject* closure, PyObject* compiled) {
  Known& known = *own.known;
  const Limits& limits = own.limits_;
  const bool is_sampling = own.sampling == Py_True;
  if (closure != Py_False || compiled != Py_False || known.is_stepping || known.is_in_backward || known.loss.get() != Py_None || known.is_clipping ||
      known.is_used || known.has_stepped || known.is_probed || known.num_steps <= limits.last_early || (has_clips(known) && !are_whole(own)) ||
      known.last_used == Used::kOther || !is_only(own, optimizer) || !has_room(own)) {
    return Outcome::kNo;
  }
  if (!take_marks(own, &known.now) || !(known.now == known.marks_last) || known.now.are_none()) return Outcome::kNo;
  const Group group(optimizer);
  Ref site = site_here(own, kStepBegins);
  int64_t due = 0;
  DroppedCalls dropped;
  Reading reading;
  if (!group || !site || !are_unchanged(own) || !dropped.prepare(own, group.parameters)) {
    return Outcome::kNo;
  }
  // of several losses, which are objects but the last one
  if (known.has_loss && known.losses && PyList_Size(known.losses.get()) != 0 && !tell(own)) return Outcome::kBroken;
  const Outcome read = !known.has_ready         ? reading.read(own, optimizer, group.parameters, kStepBegins)
                       : reading.take_over(own) ? Outcome::kYes
                                                : Outcome::kNo;
  if (read != Outcome::kYes) return read;
  const int64_t num = is_sampling ? num_probed(own, PyList_Size(group.parameters.get()), &due) : 0;
  Ref clips(has_clips(known) ? PyList_AsTuple(known.clips.get()) : nullptr);
  if (!remember_rate(own, group.rate) || (has_clips(known) && !clips) || !is_as_asked(own)) return reading.give_up(own);
  HeardStep& step = known.iteration.step;
  step = HeardStep();
  step.time_s = known.now_s;
  step.site = std::move(site);
  step.rate = held(known.lr.get());
  step.scale = held(known.grad_scale.get());
  step.clips = std::move(clips);
  step.number = known.num_steps;
  step.num_backwards = known.num_backwards;
  if (reading.is_new()) {
    step.reading = reading.commit(own);
  } else {
    step.ready = held(known.ready.get());
  }
  known.iteration.hear(Heard::kStep);
  known.num_events += 1;
  known.has_stepped = true;
  known.ends_alone = known.is_alone;
  known.is_stepping = known.has_ready = known.has_begun = known.is_heard = true;
  if (is_sampling) {
    known.num_probed_steps += 1;
    known.probe_due = due;
  }
  if (PyList_Size(known.operands.get()) != 0 && PyList_SetSlice(known.operands.get(), 0, PyList_Size(known.operands.get()), nullptr) < 0) {
    return Outcome::kBroken;
  }
  if (!dropped.commit(own)) return Outcome::kBroken;
  Outcome found = Outcome::kYes;
  const bool looks = known.num_steps % limits.sample_every == 0 && !sees_nothing_new(own, group.first.get()),
             is_left = num && !copy_slices(own, group.parameters, num);
  PyErr_Clear();
  const bool looks_at_state = is_sampling && known.num_steps % limits.state_every == limits.state_first;
  if ((is_left || looks || looks_at_state) && !tell(own)) return Outcome::kBroken;
  if (looks_at_state) found = have_done(own, kStepBegins, 3, {optimizer, known.window.get()});
  if (found == Outcome::kYes && is_left) {
    known.is_probed = true;
    known.num_scalars = -1;
    found = have_done(own, kStepBegins, 1, {optimizer, known.window.get(), group.parameters.get(), boxed(num).get()});
  }
  if (found == Outcome::kYes && looks) found = have_done(own, kStepBegins, 2, {optimizer});
  return found == Outcome::kYes ? tell_xray(own, kStepBegins, 4, {optimizer}) : found;
}

Outcome step_ends(Visits& own, PyObject* optimizer) {
  Known& known = *own.known;
  const bool is_object = known.step.get() != Py_None;
  if (!known.is_stepping || !known.has_ready || known.has_carried || known.has_applied || known.has_xray || !is_only(own, optimizer) ||
      are_compared(known) || known.num_rows + 1 >= known.xray_due) {
    return Outcome::kNo;
  }
  int64_t num_within;
  if (is_object && (!take(known.window, s_steps_within, &num_within) || num_within || !is(known.window, s_is_left_out, Py_False) ||
                    !is(known.window, s_evaluated, Py_False) || !is(known.window, s_closure, Py_False) || known.step_heard.get() == Py_None ||
                    known.ready.get() == Py_None || !is(known.step, s_applied, Py_None))) {
    return Outcome::kNo;
  }
  Ref site = is_object ? get(known.step_heard, s_site) : held(known.iteration.step.site.get());
  if (!site || !take_marks(own, &known.now) || !is_as_asked(own)) {
    return Outcome::kNo;
  }
  Ref probed = known.slices ? compared_slices(own, optimizer) : Ref();
  if (known.slices && !probed) {
    PyErr_Clear();
    return Outcome::kNo;
  }
  if (!keep_followed(own)) return Outcome::kNo;
  known.slices = Ref();
  known.slice_dtypes = Ref();
  const Ref step = held(known.step.get());
  if (is_object) {
    if (!end_begun_by_python(own)) return Outcome::kBroken;
    known.last = held(known.ready.get());
  } else {
    known.iteration.step.is_ended = true;
    known.iteration.step.probed = std::move(probed);
    if (known.has_loss) known.iteration.backward.is_used = true;
    for (Py_ssize_t i = 0; known.losses && i < PyList_Size(known.losses.get()); ++i) {
      if (!set(held(PyList_GetItem(known.losses.get(), i)), s_used, Py_True)) return Outcome::kBroken;
    }
  }
  known.num_steps += 1;
  known.last_used = known.ready_used;
  known.num_heard_before = known.num_heard;
  known.marks_last.each.swap(known.now.each);
  known.is_used = known.has_ended = known.is_heard = true;
  restart(known, std::move(site));
  if (!known.is_probed) return Outcome::kYes;
  known.is_probed = false;
  if (!tell(own)) return Outcome::kBroken;
  return have_done(own, kStepEnds, 0, {optimizer, known.window.get(), step.get()});
}

}  // namespace seismograd
