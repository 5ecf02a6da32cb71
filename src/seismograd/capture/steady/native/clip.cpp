// A clip of all gradients of the only optimizer, by their norm and before its step, as `ClipVisit` has it.

#include "reading.hpp"

namespace seismograd {

namespace {

bool are_the_same(PyObject* one, const Ref& other) {
  const Py_ssize_t n = PyList_Size(other.get());
  bool are_same = PyList_CheckExact(one) && PyList_Size(one) == n;
  for (Py_ssize_t i = 0; are_same && i < n; ++i) are_same = PyList_GetItem(one, i) == PyList_GetItem(other.get(), i);
  return are_same;
}

}  // namespace

Outcome clip_begins(Visits& own, PyObject* parameters) {
  Known& known = *own.known;
  if (known.is_stepping || known.is_used || known.is_clipping || known.is_in_backward || known.loss.get() != Py_None ||
      known.last_used == Used::kOther) {
    return Outcome::kNo;
  }
  const Ref optimizer = held(referent(known.optimizer.get()));
  if (!optimizer || !take_marks(own, &known.now) || known.now.are_none()) return Outcome::kNo;
  const Group group(optimizer.get());
  if (!group || !are_the_same(parameters, group.parameters)) return Outcome::kNo;
  if (!tell(own)) return Outcome::kBroken;
  Reading reading;
  const Outcome read = !known.has_ready         ? reading.read(own, optimizer.get(), group.parameters, kClipBegins)
                       : reading.take_over(own) ? Outcome::kYes
                                                : Outcome::kNo;
  if (read != Outcome::kYes) return read;
  const bool is_new = !known.has_ready;
  Ref ready = held(known.ready.get());
  if (reading.is_new()) ready = reading.made(own);
  const Ref readings(PyList_New(0));
  Ref clipping = made(own.running_clip);
  if (!ready || !readings || (is_new && PyList_Append(readings.get(), ready.get()) < 0) || !clipping ||
      !set_frozen(clipping, s_ids, known.id_set.get()) || !set_frozen(clipping, s_flags, own.event_flag_none) ||
      !set_frozen(clipping, s_scale, known.grad_scale.get()) || !set_frozen(clipping, s_readings, readings.get()) || !is_as_asked(own)) {
    return reading.give_up(own);
  }
  if (reading.is_new()) reading.commit(own);
  known.has_ready = known.is_clipping = known.is_heard = true;
  known.ready = std::move(ready);
  const bool is_done = set(known.state, s_clipping, clipping);
  known.clipping = std::move(clipping);
  return outcome(is_done);
}

Outcome clip_ends(Visits& own, PyObject* kind, PyObject* limit, PyObject* total, PyObject* is_l2) {
  Known& known = *own.known;
  if (!known.is_clipping || known.is_stepping || !is(known.clipping, s_ids, known.id_set.get()) ||
      !is(known.clipping, s_flags, own.event_flag_none) || !PyFloat_CheckExact(limit) || type_of(total) != own.tensor ||
      (is_l2 != Py_True && is_l2 != Py_False) || PyObject_RichCompareBool(kind, own.kind_norm, Py_EQ) != 1 || !has_room(own)) {
    return Outcome::kNo;
  }
  HeardCall call;
  call.time_s = known.now_s;
  call.site = site_here(own, kClipEnds);
  const Ref number = number_of(own, total), scale = get(known.clipping, s_scale);
  const Ref norm = number ? known_scalar(own, number.get()) : Ref(), bound = known_scalar(own, limit), clip = made(own.applied_clip);
  if (!norm || !bound || !call.site || !scale || !take_marks(own, &known.now) || (is_l2 == Py_False && !take(held(own.other_norm), &call.flags))) {
    return Outcome::kNo;
  }
  if (!clip || !set_frozen(clip, s_columns, known.positions.get()) || !set_frozen(clip, s_norm, norm.get()) ||
      !set_frozen(clip, s_limit, bound.get()) || !set_frozen(clip, s_by_norm, Py_True) || !is_as_asked(own)) {
    return Outcome::kNo;
  }
  if (!tell(own)) return Outcome::kBroken;
  const Ref events = get(known.iteration.object, s_events);
  const Ref captured = made_event(own, call, {own.kind_clip, known.index.get(), kind, norm.get(), bound.get(), scale.get(), known.bit_number});
  const bool is_done = captured && events && PyList_Append(events.get(), captured.get()) == 0 && set(known.state, s_clipping, own.no_clip) &&
                       PyList_Append(known.clips.get(), clip.get()) == 0;
  known.num_events += 1;
  known.marks_last.each.swap(known.now.each);
  known.is_clipping = false;
  known.is_heard = true;
  return outcome(is_done);
}

}  // namespace seismograd
