// A clip of all gradients of the only optimizer, by their norm and before its step, as `ClipVisit` has it.

#include "reading.hpp"

namespace seismograd {

namespace {

// Make an attribute of an object whose class lets nobody set one.
bool set_frozen(const Ref& object, PyObject* name, PyObject* value) { return value && PyObject_GenericSetAttr(object.get(), name, value) == 0; }

bool are_the_same(PyObject* one, const Ref& other) {
  const Py_ssize_t n = PyList_Size(other.get());
  bool are_same = PyList_CheckExact(one) && PyList_Size(one) == n;
  for (Py_ssize_t i = 0; are_same && i < n; ++i) are_same = PyList_GetItem(one, i) == PyList_GetItem(other.get(), i);
  return are_same;
}

}  // namespace

Outcome clip_begins(Visits& own, const Moment&, PyObject* parameters) {
  Known& known = *own.known;
  if (known.is_stepping || known.is_used || known.is_clipping || known.loss.get() != Py_None || !was_ordinary(known)) {
    return Outcome::kNo;
  }
  const Ref reference = get(own.loop, s_optimizer), optimizer = reference ? call(reference.get()) : Ref(), marks = marks_of(own);
  const Group group(optimizer.get());
  if (!group || !marks || are_equal(marks, known.none) || !are_the_same(parameters, group.parameters)) return Outcome::kNo;
  Reading reading;
  const Outcome read = !known.has_ready         ? reading.read(own, optimizer.get(), group.parameters, kClipBegins)
                       : reading.take_over(own) ? Outcome::kYes
                                                : Outcome::kNo;
  if (read != Outcome::kYes) return read;
  const Ref readings(PyList_New(0)), scale = get(known.window, s_grad_scale);
  Ref clipping = made(own.running_clip);
  if (!readings || (!known.has_ready && PyList_Append(readings.get(), reading.reading().get()) < 0) || !scale || !clipping ||
      !set_frozen(clipping, s_ids, known.id_set.get()) || !set_frozen(clipping, s_flags, own.event_flag_none) ||
      !set_frozen(clipping, s_scale, scale.get()) || !set_frozen(clipping, s_readings, readings.get()) || !is_as_asked(own)) {
    return Outcome::kNo;
  }
  const bool is_done = reading.commit(own) && set(known.state, s_clipping, clipping);
  known.has_ready = known.is_clipping = true;
  known.clipping = std::move(clipping);
  return outcome(is_done);
}

Outcome clip_ends(Visits& own, const Moment& now, PyObject* kind, PyObject* limit, PyObject* total, PyObject* is_l2) {
  Known& known = *own.known;
  if (!known.is_clipping || known.is_stepping || !is(known.clipping, s_ids, known.id_set.get()) ||
      !is(known.clipping, s_flags, own.event_flag_none) || !PyFloat_CheckExact(limit) || type_of(total) != own.tensor ||
      (is_l2 != Py_True && is_l2 != Py_False) || PyObject_RichCompareBool(kind, own.kind_norm, Py_EQ) != 1 || !has_room(own, now.iteration)) {
    return Outcome::kNo;
  }
  const Ref number = number_of(own, total), marks = marks_of(own), site = site_here(own), scale = get(known.clipping, s_scale);
  const Ref norm = number ? known_scalar(own, number.get()) : Ref(), bound = known_scalar(own, limit), clip = made(own.applied_clip);
  const Ref clips = get(known.window, s_clips), events = get(now.iteration, s_events);
  int64_t flags = 0;
  if (!norm || !bound || !marks || !site || !scale || !clips || !PyList_Check(clips.get()) || !events ||
      (is_l2 == Py_False && !take(held(own.other_norm), &flags))) {
    return Outcome::kNo;
  }
  const Ref captured =
      captured_call(own, now, own.kind_clip, kind, site, {known.index.get(), norm.get(), bound.get(), scale.get(), flags, known.bit.get()});
  if (!captured || !clip || !set_frozen(clip, s_columns, known.positions.get()) || !set_frozen(clip, s_norm, norm.get()) ||
      !set_frozen(clip, s_limit, bound.get()) || !set_frozen(clip, s_by_norm, Py_True) || !is_as_asked(own)) {
    return Outcome::kNo;
  }
  const bool is_done = set(known.state, s_clipping, own.no_clip) && set(known.clearing, s_last, marks) &&
                       PyList_Append(clips.get(), clip.get()) == 0 && PyList_Append(events.get(), captured.get()) == 0;
  known.is_clipping = false;
  known.has_clips = true;
  return outcome(is_done);
}

}  // namespace seismograd
