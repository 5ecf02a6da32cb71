// Objects of Python's, held and asked through its limited API: one build serves every version.

#pragma once

#include <cstdint>

#include "owned_reference.hpp"

namespace seismograd {

inline Ref held(PyObject* object) {
  Py_XINCREF(object);
  return Ref(object);
}

// The names of attributes, held for the life of the process.
#define X(name) extern PyObject* s_##name;
#include "names.inc"
#undef X

inline Ref get(PyObject* object, PyObject* name) { return Ref(object ? PyObject_GetAttr(object, name) : nullptr); }
inline Ref get(const Ref& object, PyObject* name) { return get(object.get(), name); }

inline bool is(const Ref& object, PyObject* name, PyObject* wanted) { return get(object, name).get() == wanted; }
inline bool is(PyObject* object, PyObject* name, PyObject* wanted) { return get(object, name).get() == wanted; }

// Whether a container has nothing in it; not where there is none.
template <typename Object>
bool is_empty(const Object& object, PyObject* name) {
  const Ref container = get(object, name);
  return container && PyObject_Size(container.get()) == 0;
}

// Take a number; false where there is none.
inline bool take(const Ref& object, int64_t* number) {
  if (!object) return false;
  *number = PyLong_AsLongLong(object.get());
  return !(*number == -1 && PyErr_Occurred());
}

inline bool take(const Ref& object, double* number) {
  if (!object) return false;
  *number = PyFloat_AsDouble(object.get());
  return !(*number == -1.0 && PyErr_Occurred());
}

template <typename Object, typename Number>
bool take(const Object& object, PyObject* name, Number* number) {
  return take(get(object, name), number);
}

inline PyObject* truth(bool is_so) { return is_so ? Py_True : Py_False; }

inline Ref boxed(int64_t number) { return Ref(PyLong_FromLongLong(number)); }
inline Ref boxed(double number) { return Ref(PyFloat_FromDouble(number)); }

inline bool set(const Ref& object, PyObject* name, PyObject* value) { return value && PyObject_SetAttr(object.get(), name, value) == 0; }
inline bool set(const Ref& object, PyObject* name, const Ref& value) { return set(object, name, value.get()); }
inline bool set(const Ref& object, PyObject* name, int64_t number) { return set(object, name, boxed(number)); }

// The same of an object whose class lets nobody set an attribute.
inline bool set_frozen(const Ref& object, PyObject* name, PyObject* value) {
  return value && PyObject_GenericSetAttr(object.get(), name, value) == 0;
}

inline Ref call(PyObject* function) { return Ref(PyObject_CallNoArgs(function)); }
template <typename... Args>
Ref call(PyObject* function, Args... args) {
  return Ref(PyObject_CallFunctionObjArgs(function, static_cast<PyObject*>(args)..., nullptr));
}

// Hide an object from the collector of cycles, for it will be in none. What waits for its row would else grow so old that a collection of all
// objects of the program is due ever again: a tenth of a second with torch.
inline Ref hidden(PyObject* object) {
  if (object) PyObject_GC_UnTrack(object);
  return Ref(object);
}

// A new object of a class of ours, as `object.__new__` makes it.
inline Ref made(PyObject* type) { return hidden(PyType_GenericAlloc(reinterpret_cast<PyTypeObject*>(type), 0)); }

}  // namespace seismograd
