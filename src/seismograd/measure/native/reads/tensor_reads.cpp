// Asks many tensors for what a steady step wants of each, in one call: the same questions as `tensor_reads.py`, which says what each
// function returns. Nothing of torch's ABI: tensors are asked through Python's own limited API, so one build serves every version.
//
// Every function but `marks` answers "unexpected" (None, False, -1) for whatever is not an ordinary tensor, and where anything raises: then
// Python asks in its own way, and what is to be raised is raised there. So no code of the program's runs in here.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <cstring>

namespace {

constexpr long kInterface = 1;  // as in tensor_reads.py
constexpr int kRows = 4;        // of a slice of a weight

// Held for the life of the process.
PyObject *tensor_type, *parameter_type, *strided, *is_functional, *storage_nbytes, *untyped_storage, *storage_offset, *data_ptr, *is_contiguous,
    *is_neg;
PyObject *s_grad, *s_version, *s_layout, *s_is_cpu, *s_dtype, *s_nbytes, *s_element_size, *s_requires_grad, *s_weight, *s_rows, *s_kept, *s_address,
    *s_num_bytes, *s_shape, *s_first, *s_stride, *s_width;

// An owned reference.
class Ref {
 public:
  explicit Ref(PyObject* object) : object_(object) {}
  ~Ref() { Py_XDECREF(object_); }
  Ref(const Ref&) = delete;
  Ref& operator=(const Ref&) = delete;
  PyObject* get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }
  PyObject* release() {
    PyObject* object = object_;
    object_ = nullptr;
    return object;
  }

 private:
  PyObject* object_;
};

PyObject* type_of(PyObject* object) { return reinterpret_cast<PyObject*>(Py_TYPE(object)); }

bool is_plain(PyObject* object) { return type_of(object) == tensor_type || type_of(object) == parameter_type; }

PyObject* ask(PyObject* function, PyObject* object) { return PyObject_CallFunctionObjArgs(function, object, nullptr); }

// Take a number, and return whether there is one.
bool number(PyObject* object, int64_t* value) {
  const Ref held(object);
  if (!held) return false;
  *value = PyLong_AsLongLong(held.get());
  return !(*value == -1 && PyErr_Occurred());
}

bool number_of(PyObject* object, PyObject* name, int64_t* value) { return number(PyObject_GetAttr(object, name), value); }

bool num_bytes(PyObject* tensor, int64_t* value) {
  const Ref storage(ask(untyped_storage, tensor));
  return storage && number(ask(storage_nbytes, storage.get()), value);
}

bool address_of(PyObject* tensor, int64_t* value) { return number(ask(data_ptr, tensor), value); }

bool is_true(PyObject* object) {
  const Ref held(object);
  return held && held.get() == Py_True;
}

bool is_false(PyObject* object) {
  const Ref held(object);
  return held && held.get() == Py_False;
}

PyObject* answer(PyObject* object) {
  Py_INCREF(object);
  return object;
}

PyObject* unexpected(PyObject* object) {
  PyErr_Clear();
  return answer(object);
}

// marks(references) -> list: as Python has it, with what it raises.
PyObject* marks(PyObject*, PyObject* references) {
  if (!PyList_Check(references)) {
    PyErr_SetString(PyExc_TypeError, "not a list");
    return nullptr;
  }
  const Py_ssize_t n = PyList_Size(references);
  Ref found(PyList_New(n));
  if (!found) return nullptr;
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* reference = PyList_GetItem(references, i);
    if (!reference) return nullptr;
    const Ref parameter(PyObject_CallNoArgs(reference));
    if (!parameter) return nullptr;
    const Ref gradient(parameter.get() == Py_None ? answer(Py_None) : PyObject_GetAttr(parameter.get(), s_grad));
    if (!gradient) return nullptr;
    PyObject* mark = answer(Py_None);
    if (gradient.get() != Py_None) {
      Py_DECREF(mark);
      const Ref id(PyLong_FromVoidPtr(gradient.get())), version(PyObject_GetAttr(gradient.get(), s_version));
      mark = id && version ? PyTuple_Pack(2, id.get(), version.get()) : nullptr;
      if (!mark) return nullptr;
    }
    if (PyList_SetItem(found.get(), i, mark) < 0) return nullptr;  // takes the mark in any case
  }
  return found.release();
}

// gradients(parameters, ids) -> list | None
PyObject* gradients(PyObject*, PyObject* args) {
  PyObject *parameters, *ids;
  if (!PyArg_ParseTuple(args, "OO", &parameters, &ids) || !PyList_Check(parameters) || !PyList_Check(ids)) return unexpected(Py_None);
  const Py_ssize_t n = PyList_Size(parameters);
  if (PyList_Size(ids) != n) return unexpected(Py_None);
  Ref found(PyList_New(n));
  if (!found) return unexpected(Py_None);
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject *parameter = PyList_GetItem(parameters, i), *id = PyList_GetItem(ids, i);
    if (!parameter || !id || !is_plain(parameter) || PyLong_AsVoidPtr(id) != parameter) return unexpected(Py_None);
    PyObject* gradient = PyObject_GetAttr(parameter, s_grad);
    if (!gradient || type_of(gradient) != tensor_type) {
      Py_XDECREF(gradient);
      return unexpected(Py_None);
    }
    if (PyList_SetItem(found.get(), i, gradient) < 0) return unexpected(Py_None);
  }
  return found.release();
}

// fill(is_still_so, tensors, known, entries, words) -> bool
PyObject* fill(PyObject*, PyObject* args) {
  PyObject *is_still_so, *tensors;
  unsigned long long known_at, entries_at;
  Py_ssize_t words;
  if (!PyArg_ParseTuple(args, "OOKKn", &is_still_so, &tensors, &known_at, &entries_at, &words) || !PyList_Check(tensors)) {
    return unexpected(Py_False);
  }
  const Ref all(PyList_AsTuple(tensors));
  if (!all || !is_true(PyObject_CallObject(is_still_so, all.get()))) return unexpected(Py_False);
  const int64_t* known = reinterpret_cast<const int64_t*>(static_cast<uintptr_t>(known_at));
  int64_t* entries = reinterpret_cast<int64_t*>(static_cast<uintptr_t>(entries_at));
  const Py_ssize_t n = PyTuple_Size(all.get());
  int64_t* addresses = static_cast<int64_t*>(PyMem_Malloc(sizeof(int64_t) * static_cast<size_t>(n + 1)));
  bool is_as_before = addresses != nullptr;
  for (Py_ssize_t i = 0; is_as_before && i < n; ++i) {
    PyObject* tensor = PyTuple_GetItem(all.get(), i);
    int64_t offset, bytes;
    is_as_before = is_plain(tensor) && number(ask(storage_offset, tensor), &offset) && offset == known[2 * i] && num_bytes(tensor, &bytes) &&
                   bytes == known[2 * i + 1] && address_of(tensor, &addresses[i]);
  }
  // all or none, for Python remembers what it has written
  for (Py_ssize_t i = 0; is_as_before && i < n; ++i) entries[i * words] = addresses[i];
  PyMem_Free(addresses);
  return is_as_before ? answer(Py_True) : unexpected(Py_False);
}

// Where the rows of a followed weight are, where it lies as it did.
struct Rows {
  const char* first;
  int64_t stride, width;
};

bool rows_of(PyObject* weight, PyObject* rows, Rows* found) {
  int64_t address, bytes, now_at, now_bytes, first;
  if (!is_plain(weight) || rows == Py_None || !number_of(rows, s_address, &address) || !number_of(rows, s_num_bytes, &bytes) ||
      !address_of(weight, &now_at) || now_at != address || !num_bytes(weight, &now_bytes) || now_bytes != bytes ||
      !number_of(rows, s_first, &first) || !number_of(rows, s_stride, &found->stride) || !number_of(rows, s_width, &found->width)) {
    return false;
  }
  found->first = reinterpret_cast<const char*>(static_cast<uintptr_t>(address + first));
  return true;
}

// unchanged(slices) -> bool
PyObject* unchanged(PyObject*, PyObject* slices) {
  if (!PyList_Check(slices)) return unexpected(Py_False);
  for (Py_ssize_t i = 0; i < PyList_Size(slices); ++i) {
    PyObject* slice = PyList_GetItem(slices, i);
    const Ref reference(PyObject_GetAttr(slice, s_weight)), rows(PyObject_GetAttr(slice, s_rows)), kept(PyObject_GetAttr(slice, s_kept));
    if (!reference || !rows || !kept || !PyBytes_Check(kept.get())) return unexpected(Py_False);
    const Ref weight(PyObject_CallNoArgs(reference.get()));
    Rows lie;
    if (!weight || !rows_of(weight.get(), rows.get(), &lie) || PyBytes_Size(kept.get()) != kRows * lie.width) return unexpected(Py_False);
    const char* bytes = PyBytes_AsString(kept.get());
    for (int row = 0; row < kRows; ++row) {
      if (std::memcmp(lie.first + row * lie.stride, bytes + row * lie.width, static_cast<size_t>(lie.width)) != 0) return answer(Py_False);
    }
  }
  return answer(Py_True);
}

// keep(slices) -> bool
PyObject* keep(PyObject*, PyObject* slices) {
  if (!PyList_Check(slices)) return unexpected(Py_False);
  for (Py_ssize_t i = 0; i < PyList_Size(slices); ++i) {
    PyObject* slice = PyList_GetItem(slices, i);
    const Ref reference(PyObject_GetAttr(slice, s_weight)), rows(PyObject_GetAttr(slice, s_rows)), dtype(PyObject_GetAttr(slice, s_dtype));
    if (!reference || !rows || !dtype) return unexpected(Py_False);
    const Ref weight(PyObject_CallNoArgs(reference.get()));
    Rows lie;
    if (!weight || !rows_of(weight.get(), rows.get(), &lie)) return unexpected(Py_False);
    const Ref shape(PyObject_GetAttr(weight.get(), s_shape)), before(PyObject_GetAttr(rows.get(), s_shape)),
        now(PyObject_GetAttr(weight.get(), s_dtype));
    if (!shape || !before || !now || now.get() != dtype.get() || PyObject_RichCompareBool(shape.get(), before.get(), Py_EQ) != 1 ||
        !is_true(ask(is_contiguous, weight.get()))) {
      return unexpected(Py_False);
    }
    const Ref kept(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(kRows * lie.width)));
    if (!kept) return unexpected(Py_False);
    char* bytes = PyBytes_AsString(kept.get());
    for (int row = 0; row < kRows; ++row) std::memcpy(bytes + row * lie.width, lie.first + row * lie.stride, static_cast<size_t>(lie.width));
    if (PyObject_SetAttr(slice, s_kept, kept.get()) < 0) return unexpected(Py_False);
  }
  return answer(Py_True);
}

// number_of_dtype(tensor, numbers) -> int: -1 for what may not be contiguous, on the CPU, and with memory
PyObject* number_of_dtype(PyObject*, PyObject* args) {
  PyObject *tensor, *numbers;
  if (!PyArg_ParseTuple(args, "OO", &tensor, &numbers) || !PyDict_Check(numbers) || !is_plain(tensor)) {
    PyErr_Clear();
    return PyLong_FromLong(-1);
  }
  const Ref layout(PyObject_GetAttr(tensor, s_layout));
  bool takes = layout && layout.get() == strided && is_true(PyObject_GetAttr(tensor, s_is_cpu));
  const Ref dtype(takes ? PyObject_GetAttr(tensor, s_dtype) : nullptr);
  PyObject* found = dtype ? PyDict_GetItemWithError(numbers, dtype.get()) : nullptr;  // borrowed
  int64_t bytes, offset, item, there;
  takes = found && is_true(ask(is_contiguous, tensor)) && is_false(ask(is_neg, tensor)) && is_false(ask(is_functional, tensor)) &&
          num_bytes(tensor, &there) && number_of(tensor, s_nbytes, &bytes) && number(ask(storage_offset, tensor), &offset) &&
          number(PyObject_CallMethodObjArgs(tensor, s_element_size, nullptr), &item) && (bytes == 0 || there >= bytes + offset * item);
  if (!takes) {
    PyErr_Clear();
    return PyLong_FromLong(-1);
  }
  return answer(found);
}

// What `keeper` returns, called with the gradients that reach a node; `what`: where to, which number, at which position.
PyObject* keep_gradient(PyObject* what, PyObject* incoming) {
  PyObject *kept = PyTuple_GetItem(what, 0), *name = PyTuple_GetItem(what, 1);
  const Py_ssize_t position = PyLong_AsSsize_t(PyTuple_GetItem(what, 2));
  if (PyTuple_Check(incoming) && position >= 0 && position < PyTuple_Size(incoming)) {
    PyObject* gradient = PyTuple_GetItem(incoming, position);
    if (gradient && gradient != Py_None && is_false(PyObject_GetAttr(gradient, s_requires_grad))) PyDict_SetItem(kept, name, gradient);
  }
  return unexpected(Py_None);
}

PyMethodDef keep_gradient_def = {"keep", keep_gradient, METH_O, nullptr};

// keeper(kept, number, position) -> function
PyObject* keeper(PyObject*, PyObject* args) {
  PyObject *kept, *name;
  Py_ssize_t position;
  if (!PyArg_ParseTuple(args, "O!On", &PyDict_Type, &kept, &name, &position)) return nullptr;
  const Ref what(PyTuple_Pack(3, kept, name, PyTuple_GetItem(args, 2)));
  return what ? PyCFunction_New(&keep_gradient_def, what.get()) : nullptr;
}

PyMethodDef functions[] = {
    {"marks", marks, METH_O, nullptr},
    {"gradients", gradients, METH_VARARGS, nullptr},
    {"fill", fill, METH_VARARGS, nullptr},
    {"unchanged", unchanged, METH_O, nullptr},
    {"keep", keep, METH_O, nullptr},
    {"number_of_dtype", number_of_dtype, METH_VARARGS, nullptr},
    {"keeper", keeper, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_tensor_reads", nullptr, -1, functions, nullptr, nullptr, nullptr, nullptr};

bool intern(PyObject** name, const char* text) { return (*name = PyUnicode_InternFromString(text)) != nullptr; }

bool take(PyObject** place, PyObject* owner, const char* name) { return owner && (*place = PyObject_GetAttrString(owner, name)) != nullptr; }

bool prepare() {
  const Ref torch(PyImport_ImportModule("torch"));
  if (!torch) return false;
  PyObject* storage_type = nullptr;
  const Ref nn(PyObject_GetAttrString(torch.get(), "nn"));
  const bool found = take(&tensor_type, torch.get(), "Tensor") && take(&parameter_type, nn.get(), "Parameter") &&
                     take(&strided, torch.get(), "strided") && take(&is_functional, torch.get(), "_is_functional_tensor") &&
                     take(&storage_type, torch.get(), "UntypedStorage") && take(&storage_nbytes, storage_type, "nbytes") &&
                     take(&untyped_storage, tensor_type, "untyped_storage") && take(&storage_offset, tensor_type, "storage_offset") &&
                     take(&data_ptr, tensor_type, "data_ptr") && take(&is_contiguous, tensor_type, "is_contiguous") &&
                     take(&is_neg, tensor_type, "is_neg");
  Py_XDECREF(storage_type);
  return found && intern(&s_grad, "grad") && intern(&s_version, "_version") && intern(&s_layout, "layout") && intern(&s_is_cpu, "is_cpu") &&
         intern(&s_dtype, "dtype") && intern(&s_nbytes, "nbytes") && intern(&s_element_size, "element_size") &&
         intern(&s_requires_grad, "requires_grad") && intern(&s_weight, "weight") && intern(&s_rows, "rows") && intern(&s_kept, "kept") &&
         intern(&s_address, "address") && intern(&s_num_bytes, "num_bytes") && intern(&s_shape, "shape") && intern(&s_first, "first") &&
         intern(&s_stride, "stride") && intern(&s_width, "width");
}

}  // namespace

PyMODINIT_FUNC PyInit__tensor_reads() {
  if (!prepare()) return nullptr;
  PyObject* module = PyModule_Create(&definition);
  if (module && PyModule_AddIntConstant(module, "INTERFACE", kInterface) < 0) {
    Py_DECREF(module);
    return nullptr;
  }
  return module;
}
