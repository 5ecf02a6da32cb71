// The visits of a steady step in one call each: what `capture/steady/` does in Python where a training does what nearly every training does, for
// the same objects and the same record. Each asks everything before it changes anything; where anything is not as expected, and where anything
// raises, Python handles the event as if nothing had been asked. Nothing of torch's ABI: all is asked through Python's limited API, of plain
// tensors only, so no code of the program's runs in here. What a visit hears stands in `Known` until somebody takes the session's lock.

#include <cmath>
#include <new>

#include "visits.hpp"

namespace seismograd {

#define X(name) PyObject* s_##name;
#include "names.inc"
#undef X

namespace {

constexpr long kInterface = 5;  // as in extension.py
constexpr Py_ssize_t kMostArguments = 4;
constexpr int kNumLimits = 22;
const char* const kEvents[kNumEvents] = {"zero_grad_ends", "backward_begins", "backward_ends", "step_begins",
                                         "step_ends",      "clip_begins",     "clip_ends",     "scheduled"};

Visits& of(PyObject* object) { return *reinterpret_cast<Visits*>(object); }

// Each reference that an object of the type holds.
template <typename Function>
void for_each_part(Visits& own, Function function) {
#define X(name) function(own.name);
#include "parts.inc"
#undef X
  for (int event = 0; event < kNumEvents; ++event) {
    function(own.fallback[event]);
    function(own.wakes[event]);
    function(own.rare[event]);
  }
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  int stopped = 0;
  for_each_part(of(self), [&](PyObject* part) {
    if (part && !stopped) stopped = visit(part, arg);
  });
  PyObject* type = type_of(self);
  return stopped ? stopped : visit(type, arg);
}

int clear(PyObject* self) {
  if (of(self).lock && lock_of(of(self)).visits == self) lock_of(of(self)).visits = nullptr;
  if (of(self).known) *of(self).known = Known();
  for_each_part(of(self), [](PyObject*& part) { Py_CLEAR(part); });
  return 0;
}

void dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  clear(self);
  delete of(self).known;
  PyObject* type = type_of(self);
  const freefunc release = reinterpret_cast<freefunc>(PyType_GetSlot(reinterpret_cast<PyTypeObject*>(type), Py_tp_free));
  release(self);
  Py_DECREF(type);
}

bool fill_limits(Visits& own) {
  Limits& to = own.limits_;
  int64_t* const numbers[] = {&to.user,        &to.library,     &to.most_without_step, &to.first_losses, &to.sample_every,  &to.budget_window,
                              &to.state_every, &to.state_first, &to.last_early,        &to.dense,        &to.most_turns,    &to.fewest_turns,
                              &to.turn_every,  &to.max_slice,   &to.min_slice,         &to.min_copied,   &to.sharing_looks, &to.shared,
                              &to.num_bins};
  constexpr Py_ssize_t kWhole = sizeof(numbers) / sizeof(*numbers);
  if (!PyTuple_Check(own.limits) || PyTuple_Size(own.limits) != kNumLimits) {
    PyErr_SetString(PyExc_ValueError, "other limits are wanted");
    return false;
  }
  for (Py_ssize_t i = 0; i < kWhole; ++i) {
    if (!take(held(PyTuple_GetItem(own.limits, i)), numbers[i])) return false;
  }
  return take(held(PyTuple_GetItem(own.limits, kWhole)), &to.max_age_s) && take(held(PyTuple_GetItem(own.limits, kWhole + 1)), &to.min_loss) &&
         take(held(PyTuple_GetItem(own.limits, kWhole + 2)), &to.share_copied);
}

// Whether `time.perf_counter` is the steady clock of the library, as nearly everywhere; then it is read without a call of Python's.
bool compare_clocks(Visits& own) {
  own.clock_ahead_s = NAN;
  double before_s, own_s, after_s;
  if (!clock_s(own, &before_s)) return false;
  own.clock_ahead_s = 0;
  if (!clock_s(own, &own_s)) return false;
  own.clock_ahead_s = NAN;
  if (!clock_s(own, &after_s)) return false;
  if (before_s <= own_s && own_s <= after_s) own.clock_ahead_s = 0;
  return true;
}

bool take_part(PyObject* parts, const char* name, PyObject** place) {
  *place = PyDict_GetItemString(parts, name);  // borrowed
  Py_XINCREF(*place);
  if (!*place) PyErr_SetString(PyExc_KeyError, name);
  return *place != nullptr;
}

// Visits(parts): a dictionary with each of parts.inc.
PyObject* create(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject* parts;
  if (!PyArg_ParseTuple(args, "O!", &PyDict_Type, &parts)) return nullptr;
  PyObject* self = PyType_GenericAlloc(type, 0);
  if (!self) return nullptr;
  bool are_there = true;
#define X(name) are_there = are_there && take_part(parts, #name, &of(self).name);
#include "parts.inc"
#undef X
  of(self).known = new (std::nothrow) Known();
  if (are_there && of(self).known && fill_limits(of(self)) && compare_clocks(of(self))) {
    lock_of(of(self)).visits = self;
    return self;
  }
  if (!PyErr_Occurred()) PyErr_NoMemory();
  Py_DECREF(self);
  return nullptr;
}

// Have the guard report what was raised: it is ours.
void report(const Visits& own, const char* part) {
  PyObject *kind = nullptr, *error = nullptr, *trace = nullptr;
  PyErr_Fetch(&kind, &error, &trace);
  PyErr_NormalizeException(&kind, &error, &trace);
  const Ref own_kind(kind), own_error(error), own_trace(trace), name(PyUnicode_FromString(part));
  if (error && name) Ref(PyObject_CallMethodObjArgs(own.guard, s_failed, name.get(), error, nullptr));
  PyErr_Clear();
  own.known->num_taken = -1;
}

PyObject* by_python(Visits& own, Event event, PyObject* const* args, Py_ssize_t num_args) {
  PyErr_Clear();
  PyObject* each[kMostArguments] = {};
  for (Py_ssize_t i = 0; i < num_args; ++i) each[i] = args[i];
  PyObject* found = PyObject_CallFunctionObjArgs(own.fallback[event], each[0], each[1], each[2], each[3], nullptr);
  // Now, as what is asked is in the processor's caches: nearly always the next visit need not ask it.
  if (found && lock_of(own).depth == 0) ask_after(own, event);
  return found;
}

// Whether nobody else is to hear of the event, and no mode of the program's is on.
bool is_alone(const Visits& own, Event event) {
  int64_t modes, dispatch_modes;
  if (!take(call(own.num_modes), &modes) || modes || !take(call(own.num_dispatch_modes), &dispatch_modes) || dispatch_modes) return false;
  for (Py_ssize_t i = 0; i < PyTuple_Size(own.wakes[event]); ++i) {
    const Ref wakes = call(PyTuple_GetItem(own.wakes[event], i));
    if (!wakes || PyObject_IsTrue(wakes.get()) != 0) return false;
  }
  return true;
}

Outcome handle(Visits& own, Event event, PyObject* const* args) {
  switch (event) {
    case kZeroGradEnds:
      return zero_grad_ends(own, args[0]);
    case kBackwardBegins:
      return backward_begins(own, args[0]);
    case kBackwardEnds:
      return backward_ends(own);
    case kClipBegins:
      return clip_begins(own, args[0]);
    case kClipEnds:
      return clip_ends(own, args[0], args[1], args[2], args[3]);
    case kScheduled:
      return Outcome::kNo;
    case kStepBegins:
      return step_begins(own, args[0], args[1], args[2]);
    default:
      return step_ends(own, args[0]);
  }
}

// What `EventVisits` does around a visit, where all is as it was asked.
Outcome handle_timed(Visits& own, Event event, PyObject* const* args) {
  Known& known = *own.known;
  double began_s, ended_s;
  own.rare_s = 0;
  if (!clock_s(own, &began_s)) return Outcome::kNo;
  known.now_s = began_s;
  Outcome found = Outcome::kBroken;
  try {
    found = handle(own, event, args);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  if (found != Outcome::kYes) return found;
  if (!clock_s(own, &ended_s)) return Outcome::kBroken;
  known.iteration.overhead_s += ended_s - began_s - own.rare_s;  // it may be another one now
  known.is_heard = true;
  return found;
}

PyObject* visit(PyObject* self, Event event, Py_ssize_t num_wanted, PyObject* const* args, Py_ssize_t num_args) {
  Visits& own = of(self);
  if (num_args > kMostArguments || !own.fallback[event]) {
    PyErr_SetString(PyExc_TypeError, "no such event");
    return nullptr;
  }
  const Ref alive = held(self);  // the last listener may go within
  const VisitLock& lock = lock_of(own);
  // Another thread in the middle of a visit is waited for in Python.
  if (num_args != num_wanted || lock.depth != 0 || own.is_inside) return by_python(own, event, args, num_args);
  own.is_inside = true;
  prefetch(own.known, sizeof(Known) - sizeof(own.known->lines));
  prefetch(&own.known->lines[event], sizeof(KnownLine));
  for (const void* each : own.known->touched) prefetch(each, 1);
  if (own.known->num_taken != lock.num_taken) ask_all(own);
  Outcome found = Outcome::kNo;
  const Known& known = *own.known;
  // What began here ends here: nobody else has come in between.
  const bool is_end = (event == kBackwardEnds && known.is_in_backward) || (event == kStepEnds && known.is_stepping && known.step.get() == Py_None);
  if (known.is_steady && known.thread == PyThread_get_thread_ident() && (is_end || is_alone(own, event))) found = handle_timed(own, event, args);
  if (found == Outcome::kBroken) report(own, kEvents[event]);
  own.is_inside = false;
  if (found == Outcome::kRaised) return nullptr;
  if (found == Outcome::kNo) return by_python(own, event, args, num_args);
  PyErr_Clear();
  Py_INCREF(Py_None);
  return Py_None;
}

PyObject* visit_zero_grad_ends(PyObject* self, PyObject* const* args, Py_ssize_t num) { return visit(self, kZeroGradEnds, 1, args, num); }
PyObject* visit_backward_begins(PyObject* self, PyObject* const* args, Py_ssize_t num) { return visit(self, kBackwardBegins, 1, args, num); }
PyObject* visit_backward_ends(PyObject* self, PyObject* const* args, Py_ssize_t num) { return visit(self, kBackwardEnds, 0, args, num); }
PyObject* visit_step_begins(PyObject* self, PyObject* const* args, Py_ssize_t num) { return visit(self, kStepBegins, 3, args, num); }
PyObject* visit_clip_begins(PyObject* self, PyObject* const* args, Py_ssize_t num) { return visit(self, kClipBegins, 1, args, num); }
PyObject* visit_clip_ends(PyObject* self, PyObject* const* args, Py_ssize_t num) { return visit(self, kClipEnds, 4, args, num); }
PyObject* visit_scheduled(PyObject* self, PyObject* const* args, Py_ssize_t num) { return visit(self, kScheduled, -1, args, num); }
PyObject* visit_step_ends(PyObject* self, PyObject* const* args, Py_ssize_t num) { return visit(self, kStepEnds, 1, args, num); }

using Fast = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);
PyCFunction as_method(Fast function) { return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function)); }

// forget(): something that was asked may have changed without the lock.
PyObject* forget(PyObject* self, PyObject*) {
  if (lock_of(of(self)).depth == 0 && !hand_over(of(self))) report(of(self), "hand over");
  of(self).known->num_taken = -1;
  Py_INCREF(Py_None);
  return Py_None;
}

// connect(event, fallback, wakes, rare): what handles the event where it is not as in nearly every step, a tuple of functions that are asked first
// whether somebody else is to hear of it, and one of what Python does behind all else, now and then. Returns what handles the event.
PyObject* connect(PyObject* self, PyObject* args) {
  const char* name;
  PyObject *fallback, *wakes, *rare;
  if (!PyArg_ParseTuple(args, "sOO!O!", &name, &fallback, &PyTuple_Type, &wakes, &PyTuple_Type, &rare)) return nullptr;
  for (int event = 0; event < kNumEvents; ++event) {
    if (PyUnicode_CompareWithASCIIString(Ref(PyUnicode_FromString(name)).get(), kEvents[event]) != 0) continue;
    Visits& own = of(self);
    Py_INCREF(fallback);
    Py_INCREF(wakes);
    Py_INCREF(rare);
    const Ref old_fallback(own.fallback[event]), old_wakes(own.wakes[event]), old_rare(own.rare[event]);
    own.fallback[event] = fallback;
    own.wakes[event] = wakes;
    own.rare[event] = rare;
    return PyObject_GetAttrString(self, name);
  }
  PyErr_SetString(PyExc_ValueError, "an event of nearly every step is wanted");
  return nullptr;
}

PyMethodDef methods[] = {
    {"zero_grad_ends", as_method(visit_zero_grad_ends), METH_FASTCALL, nullptr},
    {"backward_begins", as_method(visit_backward_begins), METH_FASTCALL, nullptr},
    {"backward_ends", as_method(visit_backward_ends), METH_FASTCALL, nullptr},
    {"step_begins", as_method(visit_step_begins), METH_FASTCALL, nullptr},
    {"step_ends", as_method(visit_step_ends), METH_FASTCALL, nullptr},
    {"clip_begins", as_method(visit_clip_begins), METH_FASTCALL, nullptr},
    {"clip_ends", as_method(visit_clip_ends), METH_FASTCALL, nullptr},
    {"scheduled", as_method(visit_scheduled), METH_FASTCALL, nullptr},
    {"forget", forget, METH_NOARGS, nullptr},
    {"connect", connect, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

// A lock that may be taken again by the thread that has it, and knows how often it was taken.
PyObject* create_lock(PyTypeObject* type, PyObject*, PyObject*) {
  const Ref threading(PyImport_ImportModule("threading"));
  const Ref lock(threading ? PyObject_CallMethod(threading.get(), "RLock", nullptr) : nullptr);
  PyObject* self = lock ? PyType_GenericAlloc(type, 0) : nullptr;
  if (!self) return nullptr;
  VisitLock& own = *reinterpret_cast<VisitLock*>(self);
  own.acquire = PyObject_GetAttrString(lock.get(), "acquire");
  own.release = PyObject_GetAttrString(lock.get(), "release");
  if (own.acquire && own.release) return self;
  Py_DECREF(self);
  return nullptr;
}

void dealloc_lock(PyObject* self) {
  VisitLock& own = *reinterpret_cast<VisitLock*>(self);
  Py_CLEAR(own.acquire);
  Py_CLEAR(own.release);
  PyObject* type = type_of(self);
  reinterpret_cast<freefunc>(PyType_GetSlot(reinterpret_cast<PyTypeObject*>(type), Py_tp_free))(self);
  Py_DECREF(type);
}

PyObject* enter_lock(PyObject* self, PyObject*) {
  VisitLock& own = *reinterpret_cast<VisitLock*>(self);
  const Ref taken = call(own.acquire);
  if (!taken) return nullptr;
  own.depth += 1;
  own.num_taken += 1;
  if (own.depth == 1 && own.visits && !hand_over(of(own.visits))) report(of(own.visits), "hand over");
  Py_INCREF(Py_True);
  return Py_True;
}

PyObject* leave_lock(PyObject* self, PyObject*) {
  VisitLock& own = *reinterpret_cast<VisitLock*>(self);
  own.depth -= 1;
  const Ref released = call(own.release);
  if (!released) {
    own.depth += 1;
    return nullptr;
  }
  Py_INCREF(Py_None);
  return Py_None;
}

PyMethodDef lock_methods[] = {
    {"__enter__", enter_lock, METH_NOARGS, nullptr},
    {"__exit__", leave_lock, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot lock_slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(create_lock)},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc_lock)},
    {Py_tp_methods, lock_methods},
    {0, nullptr},
};

PyType_Spec lock_spec = {"seismograd.capture.steady._visits.VisitLock", sizeof(VisitLock), 0, Py_TPFLAGS_DEFAULT, lock_slots};

PyType_Slot slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(create)},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(clear)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

PyType_Spec spec = {"seismograd.capture.steady._visits.Visits", sizeof(Visits), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_visits", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};

bool add_type(PyObject* module, const char* name, PyType_Spec* of) {
  const Ref type(PyType_FromSpec(of));
  return type && PyModule_AddObjectRef(module, name, type.get()) == 0;
}

bool intern_names() {
  bool are_there = true;
#define X(name) are_there = are_there && (s_##name = PyUnicode_InternFromString(#name)) != nullptr;
#include "names.inc"
#undef X
  return are_there;
}

}  // namespace

}  // namespace seismograd

PyMODINIT_FUNC PyInit__visits() {
  using namespace seismograd;
  if (!intern_names()) return nullptr;
  PyObject* module = PyModule_Create(&definition);
  if (!module || !add_type(module, "Visits", &spec) || !add_type(module, "VisitLock", &lock_spec) ||
      PyModule_AddIntConstant(module, "INTERFACE", kInterface) < 0) {
    Py_XDECREF(module);
    return nullptr;
  }
  return module;
}
