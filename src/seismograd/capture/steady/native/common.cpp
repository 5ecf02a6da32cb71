// What several visits ask, and make.

#include <chrono>
#include <cmath>

#include "visits.hpp"

namespace seismograd {

constexpr int kMaxFrames = 32;
constexpr int64_t kLeastAddress = 1 << 16;  // an offset into no memory is less

bool clock_s(const Visits& own, double* seconds) {
  if (std::isnan(own.clock_ahead_s)) return take(call(own.perf_counter), seconds);
  *seconds = own.clock_ahead_s + std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  return true;
}

Outcome have_done(Visits& own, Event event, int position, std::initializer_list<PyObject*> args) {
  Known& known = *own.known;
  double began_s, ended_s;
  const Ref all(PyTuple_New(static_cast<Py_ssize_t>(args.size())));
  if (!all || !clock_s(own, &began_s)) return Outcome::kBroken;
  Py_ssize_t i = 0;
  for (PyObject* arg : args) {
    if (!arg) return Outcome::kBroken;
    Py_INCREF(arg);  // which the tuple takes in any case
    if (PyTuple_SetItem(all.get(), i++, arg) < 0) return Outcome::kBroken;
  }
  const Ref done(PyObject_CallObject(PyTuple_GetItem(own.rare[event], position), all.get()));
  if (!done) return Outcome::kRaised;
  int64_t num_full;
  // It has taken the lock once, and has changed nothing that was asked.
  const bool is_as_known = known.num_taken + 1 == lock_of(own).num_taken && take(own.visits, s_num_full, &num_full) && num_full == known.num_full &&
                           is_empty(own.guard, s_failures);
  if (is_as_known) known.num_taken += 1;
  if (!clock_s(own, &ended_s)) return Outcome::kBroken;
  own.rare_s += ended_s - began_s;
  return Outcome::kYes;
}

Ref marks_of(const Visits& own) {
  const Ref& references = own.known->references;
  const Py_ssize_t n = PyList_Size(references.get());
  Ref found(PyList_New(n));
  for (Py_ssize_t i = 0; found && i < n; ++i) {
    const Ref parameter = call(PyList_GetItem(references.get(), i));
    if (!parameter || !is_plain(own, parameter.get())) return Ref();
    const Ref gradient = get(parameter, s_grad);
    if (!gradient) return Ref();
    Ref mark = held(Py_None);
    if (gradient.get() != Py_None) {
      if (type_of(gradient.get()) != own.tensor) return Ref();
      const Ref id(PyLong_FromVoidPtr(gradient.get())), version = get(gradient, s__version);
      mark = Ref(id && version ? PyTuple_Pack(2, id.get(), version.get()) : nullptr);
      if (!mark) return Ref();
    }
    Py_INCREF(mark.get());  // which the list takes in any case
    if (PyList_SetItem(found.get(), i, mark.get()) < 0) return Ref();
  }
  return found;
}

bool was_ordinary(const Known& known) {
  const Ref last = get(known.window, s_last);
  return last && (last.get() == Py_None || is(last, s_is_ordinary, Py_True));
}

bool is_only(const Visits& own, PyObject* optimizer) {
  const Ref only = get(own.loop, s_optimizer);
  return only && call(only.get()).get() == optimizer;
}

Ref number_of(const Visits& own, PyObject* loss) {
  int64_t address;
  if (!is(loss, s_is_cpu, Py_True) || !take(call(own.data_ptr, loss), &address) || address < kLeastAddress) return Ref();
  Ref number = call(own.item, loss);
  return number && PyFloat_CheckExact(number.get()) ? std::move(number) : Ref();
}

bool are_equal(const Ref& one, const Ref& other) {
  return one && other && (one.get() == other.get() || PyObject_RichCompareBool(one.get(), other.get(), Py_EQ) == 1);
}

Ref site_here(const Visits& own) {
  const Ref &kinds = own.known->kinds, &places = own.known->places;
  Ref frame = held(reinterpret_cast<PyObject*>(PyEval_GetFrame()));  // that of the hook
  for (int k = 0; frame && frame.get() != Py_None && k < kMaxFrames; ++k) {
    const Ref code(reinterpret_cast<PyObject*>(PyFrame_GetCode(reinterpret_cast<PyFrameObject*>(frame.get()))));
    const Ref file = get(code, s_co_filename);
    PyObject* known = file ? PyDict_GetItemWithError(kinds.get(), file.get()) : nullptr;  // borrowed
    int64_t kind;
    if (!known || !take(held(known), &kind) || kind == own.limits_.library) return Ref();
    if (kind == own.limits_.user) {
      const Ref id(PyLong_FromVoidPtr(code.get())), instruction = get(frame, s_f_lasti);
      const Ref key(id && instruction ? PyTuple_Pack(2, id.get(), instruction.get()) : nullptr);
      PyObject* place = key ? PyDict_GetItemWithError(places.get(), key.get()) : nullptr;  // borrowed
      if (!place || !PyTuple_Check(place) || PyTuple_Size(place) != 2 || PyTuple_GetItem(place, 0) != code.get()) return Ref();
      return held(PyTuple_GetItem(place, 1));
    }
    frame = get(frame, s_f_back);
  }
  return Ref();
}

Ref captured_call(const Visits& own, const Moment& now, PyObject* kind, PyObject* detail, const Ref& site, const Numbers& numbers) {
  Ref captured = made(own.captured_event);
  const bool is_made = captured && set(captured, s_kind, kind) && set(captured, s_time_s, boxed(now.began_s - own.known->start_s)) &&
                       set(captured, s_site, site) && set(captured, s_optimizer, numbers.optimizer) && set(captured, s_detail, detail) &&
                       set(captured, s_value, numbers.value) && set(captured, s_limit, numbers.limit) && set(captured, s_scale, numbers.scale) &&
                       set(captured, s_reduction, Py_None) && set(captured, s_touched, numbers.touched) && set(captured, s_flags, numbers.flags) &&
                       set(captured, s_unclaimed, Py_False);
  return is_made ? std::move(captured) : Ref();
}

bool has_room(const Visits& own, const Ref& iteration) {
  const Ref events = get(iteration, s_events);
  return events && PyList_Check(events.get()) && PyList_Size(events.get()) < own.limits_.most_without_step;
}

Ref known_scalar(const Visits& own, PyObject* value) {
  Ref scalar = made(own.scalar);
  const bool is_made =
      scalar && set(scalar, s_known, Py_True) && set(scalar, s_used, Py_False) && set(scalar, s_value, value) && set(scalar, s_tensor, Py_None);
  return is_made ? std::move(scalar) : Ref();
}

}  // namespace seismograd
