// Leaves the program's modes, and enters them again, in one call each: no signal handler's exception comes between two of the guards, as it may
// between two lines of Python (`isolation.py`, whose class `Guards` does the same without a compiler). Nothing of torch's ABI: its guards are asked
// for by name, through Python's limited API, and all of them are C functions.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace {

// Held for the life of the process.
PyObject *no_torch_function, *no_autocast, *is_grad_enabled, *set_grad_enabled, *s_enter, *s_exit;

struct Guards {
  PyObject_HEAD PyObject* function;
  PyObject* gradients;  // whether graphs were recorded
  PyObject* autocast;
};

// Make a guard and enter it; a null pointer where that failed.
PyObject* entered(PyObject* type) {
  PyObject* guard = PyObject_CallNoArgs(type);
  PyObject* done = guard ? PyObject_CallMethodObjArgs(guard, s_enter, nullptr) : nullptr;
  if (!done) Py_CLEAR(guard);
  Py_XDECREF(done);
  return guard;
}

// Take an answer that is not wanted; return whether there was one.
bool done(PyObject* answer) {
  Py_XDECREF(answer);
  return answer != nullptr;
}

bool left(PyObject** guard) {
  if (!*guard) return true;
  const bool is_left = done(PyObject_CallMethodObjArgs(*guard, s_exit, Py_None, Py_None, Py_None, nullptr));
  Py_CLEAR(*guard);
  return is_left;
}

// Leave what was entered, the last first, all of it also where a part fails.
bool leave(Guards* self) {
  bool is_left = left(&self->autocast);
  if (self->gradients) is_left = done(PyObject_CallFunctionObjArgs(set_grad_enabled, self->gradients, nullptr)) && is_left;
  Py_CLEAR(self->gradients);
  return left(&self->function) && is_left;
}

PyObject* enter(PyObject* object, PyObject*) {
  auto* self = reinterpret_cast<Guards*>(object);
  if (self->function) {
    PyErr_SetString(PyExc_RuntimeError, "guards are entered once");
    return nullptr;
  }
  // the outermost first: turning gradients off is itself a call that a mode can see
  self->function = entered(no_torch_function);
  if (self->function) self->gradients = PyObject_CallNoArgs(is_grad_enabled);
  if (self->gradients && done(PyObject_CallFunctionObjArgs(set_grad_enabled, Py_False, nullptr))) self->autocast = entered(no_autocast);
  if (self->autocast) Py_RETURN_NONE;
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  if (!leave(self)) PyErr_Clear();
  PyErr_Restore(type, value, trace);
  return nullptr;
}

PyObject* exit_(PyObject* object, PyObject*) {
  if (!leave(reinterpret_cast<Guards*>(object))) return nullptr;
  Py_RETURN_NONE;
}

void release(PyObject* object) {
  auto* self = reinterpret_cast<Guards*>(object);
  Py_XDECREF(self->function);
  Py_XDECREF(self->gradients);
  Py_XDECREF(self->autocast);
  PyTypeObject* type = Py_TYPE(object);
  PyObject_Free(object);
  Py_DECREF(type);
}

PyMethodDef methods[] = {{"__enter__", enter, METH_NOARGS, nullptr}, {"__exit__", exit_, METH_VARARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
PyType_Slot slots[] = {{Py_tp_methods, methods}, {Py_tp_dealloc, reinterpret_cast<void*>(release)}, {0, nullptr}};
PyType_Spec spec = {"seismograd.tensors._guards.Guards", sizeof(Guards), 0, Py_TPFLAGS_DEFAULT, slots};
PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_guards", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};

bool prepare() {
  PyObject* own = PyImport_ImportModule("torch._C");
  if (!own) return false;
  no_torch_function = PyObject_GetAttrString(own, "DisableTorchFunction");
  no_autocast = PyObject_GetAttrString(own, "_DisableAutocast");
  is_grad_enabled = PyObject_GetAttrString(own, "is_grad_enabled");
  set_grad_enabled = PyObject_GetAttrString(own, "_set_grad_enabled");
  Py_DECREF(own);
  s_enter = PyUnicode_InternFromString("__enter__");
  s_exit = PyUnicode_InternFromString("__exit__");
  return no_torch_function && no_autocast && is_grad_enabled && set_grad_enabled && s_enter && s_exit;
}

}  // namespace

PyMODINIT_FUNC PyInit__guards() {
  if (!prepare()) return nullptr;
  PyObject* module = PyModule_Create(&definition);
  PyObject* type = module ? PyType_FromSpec(&spec) : nullptr;
  if (!type || PyModule_AddObjectRef(module, "Guards", type) < 0) Py_CLEAR(module);
  Py_XDECREF(type);
  return module;
}
