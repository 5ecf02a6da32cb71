// Asks many tensors for what a steady step wants of each, in one call: the same questions as `tensor_reads.py`, which says what each
// function returns. Nothing of torch's ABI: tensors are asked through Python's own limited API, so one build serves every version.
//
// Every function but `marks` and `identities` answers "unexpected" (None, False, -1) for whatever is not an ordinary tensor, and where anything
// raises: then Python asks in its own way, and what is to be raised is raised there. So no code of the program's runs in here.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <numeric>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "owned_reference.hpp"

namespace {

constexpr long kInterface = 9;         // as in tensor_reads.py
constexpr int kRows = 4;               // of a slice of a weight
constexpr int kSliceWords = 7;         // as SLICE_WORDS in library.py
constexpr int64_t kHeldFor = 1 << 18;  // numbers for which the interpreter is not left to other threads: giving it back takes as long
constexpr int32_t kCpu = 0, kInt64 = 4, kFloat32 = 6, kFloat64 = 7;  // as torch's C interface has them, which `torch_shim.py` sees
constexpr int kCount = 1, kMaxSeen = 64;                             // the word of an entry that says how many numbers it has; nodes of a graph

// Held for the life of the process.
PyObject *tensor_type, *parameter_type, *strided, *is_functional, *storage_nbytes, *untyped_storage, *storage_offset, *data_ptr, *is_contiguous,
    *is_neg, *torch_module, *is_grad_enabled, *num_modes, *num_dispatch_modes, *graph_task, *is_autocast, *autocast_dtype, *any_autocast;
PyObject *s_cpu, *s_default_generator, *s_get_state, *s_grad_fn, *s_sequence_nr, *s_register_hook_dict, *s_backward_hooks, *s_output_nr,
    *s_next_functions, *s_input_metadata, *s_name, *s_saved_exponent;
PyObject *s_grad, *s_cdata, *s_version, *s_layout, *s_is_cpu, *s_dtype, *s_nbytes, *s_element_size, *s_requires_grad, *s_weight, *s_rows, *s_kept,
    *s_shape, *s_where, *s_is_nested, *s_is_paused, *s_calls, *s_empty, *minus_one, *s_raw_other;

using seismograd::Ref;
using seismograd::type_of;

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

// torch's own functions (`torch_shim.py`), given a tensor as where a pointer to what `_cdata` is stands; null where there are none.
struct TorchFunctions {
  template <typename T>
  using Ask = int32_t (*)(void* const*, T*);
  Ask<int64_t> offset, num_bytes, address, num_dims;
  Ask<int64_t*> sizes;
  Ask<int32_t> dtype, device_type;
  Ask<float> float_item;
  Ask<double> double_item;
  Ask<int64_t> integer_item;
} by_torch;

bool handle_of(PyObject* tensor, void** handle) {
  int64_t own;
  if (!number_of(tensor, s_cdata, &own)) return false;
  *handle = reinterpret_cast<void*>(static_cast<intptr_t>(own));
  return true;
}

// Where a dense tensor lies: its offset, the bytes of its storage and its address. torch's functions are for those that were found to have a storage:
// else they write to the standard error.
struct Place {
  int64_t offset, num_bytes, address;
};

bool place_of(PyObject* tensor, Place* found) {
  void* handle;
  if (!by_torch.address) {
    return number(ask(storage_offset, tensor), &found->offset) && num_bytes(tensor, &found->num_bytes) && address_of(tensor, &found->address);
  }
  return handle_of(tensor, &handle) && by_torch.offset(&handle, &found->offset) == 0 && by_torch.num_bytes(&handle, &found->num_bytes) == 0 &&
         by_torch.address(&handle, &found->address) == 0;
}

// Take the number that a plain tensor of no dimension is, in memory of the CPU that there is, as torch says it without Python; and its dtype.
bool takes_number(PyObject* tensor, int32_t* dtype, double* value) {
  constexpr int64_t kLeastAddress = 1 << 16;  // an offset into no memory is less
  void* handle;
  int64_t num_dims, address, integer;
  int32_t device_type;
  float single;
  if (!by_torch.address || type_of(tensor) != tensor_type || !handle_of(tensor, &handle) || by_torch.device_type(&handle, &device_type) != 0 ||
      device_type != kCpu || by_torch.num_dims(&handle, &num_dims) != 0 || num_dims != 0 || by_torch.dtype(&handle, dtype) != 0 ||
      by_torch.address(&handle, &address) != 0 || address < kLeastAddress) {
    return false;
  }
  switch (*dtype) {
    case kFloat32:
      if (by_torch.float_item(&handle, &single) != 0) return false;
      *value = static_cast<double>(single);
      return true;
    case kFloat64:
      return by_torch.double_item(&handle, value) == 0;
    case kInt64:
      if (by_torch.integer_item(&handle, &integer) != 0) return false;
      *value = static_cast<double>(integer);
      return true;
    default:
      return false;
  }
}

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

// Put the addresses of tensors that lie as they did into the entries: all or none, for Python remembers what it has written.
bool fill_in(PyObject* is_still_so, PyObject* tensors, const int64_t* known, int64_t* entries, Py_ssize_t words) {
  const Ref all(PyList_AsTuple(tensors));
  if (!all || !is_true(PyObject_CallObject(is_still_so, all.get()))) return false;
  const Py_ssize_t n = PyTuple_Size(all.get());
  int64_t* addresses = static_cast<int64_t*>(PyMem_Malloc(sizeof(int64_t) * static_cast<size_t>(n + 1)));
  bool is_as_before = addresses != nullptr;
  for (Py_ssize_t i = 0; is_as_before && i < n; ++i) {
    PyObject* tensor = PyTuple_GetItem(all.get(), i);
    Place now;
    is_as_before = is_plain(tensor) && place_of(tensor, &now) && now.offset == known[2 * i] && now.num_bytes == known[2 * i + 1];
    if (is_as_before) addresses[i] = now.address;
  }
  for (Py_ssize_t i = 0; is_as_before && i < n; ++i) entries[i * words] = addresses[i];
  PyMem_Free(addresses);
  return is_as_before;
}

template <typename T>
T* at(unsigned long long address) {
  return reinterpret_cast<T*>(static_cast<uintptr_t>(address));
}

// use_torch(addresses): the functions of torch to ask by, in the order of `TorchFunctions`; none of them: by Python
PyObject* use_torch(PyObject*, PyObject* addresses) {
  constexpr Py_ssize_t kNum = sizeof(TorchFunctions) / sizeof(void*);
  void* each[kNum] = {};
  if (!PyTuple_Check(addresses) || (PyTuple_Size(addresses) != kNum && PyTuple_Size(addresses) != 0)) {
    PyErr_SetString(PyExc_ValueError, "other functions are wanted");
    return nullptr;
  }
  for (Py_ssize_t i = 0; i < PyTuple_Size(addresses); ++i) {
    each[i] = PyLong_AsVoidPtr(PyTuple_GetItem(addresses, i));
    if (PyErr_Occurred()) return nullptr;
  }
  std::memcpy(&by_torch, each, sizeof(each));
  return answer(Py_None);
}

// fill(is_still_so, tensors, known, entries, words) -> bool
PyObject* fill(PyObject*, PyObject* args) {
  PyObject *is_still_so, *tensors;
  unsigned long long known, entries;
  Py_ssize_t words;
  if (!PyArg_ParseTuple(args, "OOKKn", &is_still_so, &tensors, &known, &entries, &words) || !PyList_Check(tensors) ||
      !fill_in(is_still_so, tensors, at<const int64_t>(known), at<int64_t>(entries), words)) {
    return unexpected(Py_False);
  }
  return answer(Py_True);
}

using Kernel = int32_t (*)(const void*, int64_t, int32_t, int32_t, double*, double*);

// measure(is_still_so, tensors, known, entries, words, kernel, threads, set, rows, norms, nonfinites) -> (bytes, bool) | None
PyObject* measure(PyObject*, PyObject* args) {
  PyObject *is_still_so, *tensors;
  unsigned long long known, entries_at, kernel_at;
  Py_ssize_t words, rows, norms, nonfinites;
  int threads, set;
  if (!PyArg_ParseTuple(args, "OOKKnKiinnn", &is_still_so, &tensors, &known, &entries_at, &words, &kernel_at, &threads, &set, &rows, &norms,
                        &nonfinites) ||
      !PyList_Check(tensors) || PyList_Size(tensors) == 0 || norms >= rows || nonfinites >= rows) {
    return unexpected(Py_None);
  }
  int64_t* entries = at<int64_t>(entries_at);
  if (!fill_in(is_still_so, tensors, at<const int64_t>(known), entries, words)) return unexpected(Py_None);
  const Py_ssize_t n = PyList_Size(tensors);
  const Ref found(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(sizeof(double)) * rows * n));
  if (!found) return unexpected(Py_None);
  char* bytes = PyBytes_AsString(found.get());
  double* numbers = reinterpret_cast<double*>(bytes);
  const bool is_aligned = reinterpret_cast<uintptr_t>(bytes) % alignof(double) == 0;
  int64_t count = 0;
  for (Py_ssize_t i = 0; i < n; ++i) count += entries[i * words + kCount];
  const Kernel kernel = reinterpret_cast<Kernel>(static_cast<uintptr_t>(kernel_at));
  if (!is_aligned) return unexpected(Py_None);
  int32_t used;
  if (count > kHeldFor) {
    PyThreadState* state = PyEval_SaveThread();
    used = kernel(entries, n, threads, set, numbers, nullptr);
    PyEval_RestoreThread(state);
  } else {
    used = kernel(entries, n, threads, set, numbers, nullptr);
  }
  if (used < 0) return unexpected(Py_None);
  bool is_ordinary = true;  // NaN is neither a norm of 0 nor a count of none
  for (Py_ssize_t i = 0; i < n; ++i) is_ordinary = is_ordinary && numbers[norms * n + i] != 0 && numbers[nonfinites * n + i] == 0;
  PyObject* result = PyTuple_Pack(2, found.get(), is_ordinary ? Py_True : Py_False);
  return result ? result : unexpected(Py_None);
}

// Where the rows of a followed weight are, where it lies as it did.
struct Rows {
  const char* first;
  int64_t stride, width;
};

bool rows_of(PyObject* weight, PyObject* rows, Rows* found) {
  int64_t now_at, now_bytes, where[5];  // as `CpuRows.where`: address, bytes of storage, first, stride, width
  if (!is_plain(weight) || rows == Py_None) return false;
  const Ref packed(PyObject_GetAttr(rows, s_where));
  if (!packed || !PyBytes_Check(packed.get()) || PyBytes_Size(packed.get()) != static_cast<Py_ssize_t>(sizeof(where))) return false;
  std::memcpy(where, PyBytes_AsString(packed.get()), sizeof(where));
  if (!address_of(weight, &now_at) || now_at != where[0] || !num_bytes(weight, &now_bytes) || now_bytes != where[1]) return false;
  found->first = reinterpret_cast<const char*>(static_cast<uintptr_t>(where[0] + where[2]));
  found->stride = where[3];
  found->width = where[4];
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

// What `saved` gives of a node, without a hook of the program's, and what is taken of it; both in rare_reads.inc.
PyObject* only_number(PyObject* tensor);
bool takes_constant(PyObject* node, double* value);

#include "held_calls.inc"

// The node that the gradient of a node's input at this position goes to; `None` where there is none, null for what is unexpected.
PyObject* source_at(PyObject* sources, Py_ssize_t position) {
  PyObject* edge = PyTuple_Check(sources) && position < PyTuple_Size(sources) ? PyTuple_GetItem(sources, position) : nullptr;
  PyObject* node = edge && PyTuple_Check(edge) ? PyTuple_GetItem(edge, 0) : nullptr;
  return node ? answer(node) : nullptr;
}

// shape_below(node, hops) -> tuple | None
PyObject* shape_below(PyObject*, PyObject* args) {
  PyObject* top;
  int hops;
  if (!PyArg_ParseTuple(args, "Oi", &top, &hops)) return unexpected(Py_None);
  PyObject* node = answer(top);
  PyObject* found = nullptr;
  for (; hops > 0 && node != Py_None; --hops) {
    const Ref own(node);
    node = nullptr;
    const Ref sources(PyObject_GetAttr(own.get(), s_next_functions));
    if (!sources || !PyTuple_Check(sources.get()) || PyTuple_Size(sources.get()) == 0) break;  // a leaf: Python says what of it
    node = source_at(sources.get(), 0);
    if (node == Py_None && PyTuple_Size(sources.get()) > 1) {
      Py_DECREF(node);
      node = source_at(sources.get(), 1);
    }
    if (!node || node == Py_None) break;
    const Ref metadata(PyObject_GetAttr(node, s_input_metadata));
    if (!metadata) break;
    const Ref first(PySequence_Check(metadata.get()) ? PySequence_GetItem(metadata.get(), 0) : nullptr);
    const Ref shape(first ? PyObject_GetAttr(first.get(), s_shape) : nullptr);
    if (!shape || !(PyList_Check(shape.get()) || PyTuple_Check(shape.get()))) break;
    Ref sizes(PySequence_Tuple(shape.get()));
    if (!sizes) break;
    const Py_ssize_t n = PyTuple_Size(sizes.get());
    if (n == 0) continue;
    bool are_plain = true;
    for (Py_ssize_t i = 0; i < n; ++i) are_plain = are_plain && type_of(PyTuple_GetItem(sizes.get(), i)) == reinterpret_cast<PyObject*>(&PyLong_Type);
    if (are_plain) found = sizes.release();
    break;
  }
  Py_XDECREF(node);
  return found ? found : unexpected(Py_None);
}

// Whether a node with this name is a power whose derivative is finite at each number, as that of a square.
bool is_finite_power(PyObject* node, PyObject* name) {
  if (!PyUnicode_Check(name) || PyUnicode_CompareWithASCIIString(name, "PowBackward0") != 0) return false;
  const Ref exponent(PyObject_GetAttr(node, s_saved_exponent));
  if (!exponent || !(PyFloat_CheckExact(exponent.get()) || PyLong_CheckExact(exponent.get()))) return false;
  const double value = PyFloat_AsDouble(exponent.get());
  return !PyErr_Occurred() && (value >= 1 || value == 0);
}

// Whether the derivative of a quotient by this number is finite at each number, in each dtype.
bool is_regular_divisor(double divisor) {
  constexpr double kLeast = 1e-3;
  return std::fabs(divisor) >= kLeast && std::isfinite(divisor);
}

bool is_called(PyObject* name, const char* wanted) { return PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, wanted) == 0; }

// Whether the derivative of a node with this name is finite at each number, as that of a square, or of a quotient by a constant.
bool is_regular(PyObject* node, PyObject* name) {
  double divisor;
  return is_finite_power(node, name) || (is_called(name, "DivBackward0") && takes_constant(node, &divisor) && is_regular_divisor(divisor));
}

// Whether a node is a few operations behind the result of this call, none of which has one of these names, and the first of them that has a result of
// several numbers has one of the shape of that. `is_scalar`: the node's own result is one number of no dimension.
bool is_behind(PyObject* node, const HeldFields& held, PyObject* names, bool is_scalar, int most = 3) {
  const Ref name(PyObject_CallMethodObjArgs(node, s_name, nullptr)), sources(PyObject_GetAttr(node, s_next_functions));
  if (!name || !sources || !PyTuple_Check(sources.get())) return false;
  const bool divides = is_called(name.get(), "DivBackward0");
  double constant;
  // one number times or over one number: what is below is one number, too
  const bool is_scaled = is_scalar && (divides || is_called(name.get(), "MulBackward0")) && takes_constant(node, &constant);
  const bool is_fit = is_scaled && divides ? is_regular_divisor(constant) : PyDict_Contains(names, name.get()) == 0 || is_regular(node, name.get());
  bool is_found = false;
  for (Py_ssize_t i = 0; is_fit && i < PyTuple_Size(sources.get()); ++i) {
    int64_t order;
    const Ref source(source_at(sources.get(), i));
    if (!source) return false;
    if (source.get() == Py_None) continue;
    if (!number(PyObject_CallMethodObjArgs(source.get(), s_sequence_nr, nullptr), &order)) return false;  // a leaf's is too large
    if (i == 0 && order == held.last) {
      is_found = !is_scaled;
      if (!is_found) return false;
    } else if (order > held.last || (order == held.last && !is_found)) {
      if (i > 0 || most <= 1) return false;
      const Ref below(PyObject_CallMethodObjArgs(source.get(), s_name, nullptr));
      if (!below || !(is_scaled || is_called(below.get(), "LogSoftmaxBackward0")) ||
          !is_behind(source.get(), held, names, is_scaled, is_scaled ? most - 1 : 1)) {
        return false;
      }
      is_found = true;
    }
  }
  return is_found;
}

// has_none(tops, after, leaf, names, most) -> bool
PyObject* has_none(PyObject*, PyObject* args) {
  PyObject *tops, *names, *seen[kMaxSeen];
  long long after;
  unsigned long long leaf;
  int most, num = 0, stack[kMaxSeen], height = 0;
  if (!PyArg_ParseTuple(args, "O!LKO!i", &PyList_Type, &tops, &after, &leaf, &PyDict_Type, &names, &most) || PyList_Size(tops) != 1) {
    return unexpected(Py_False);
  }
  seen[num++] = answer(PyList_GetItem(tops, 0));
  stack[height++] = 0;
  bool is_known = seen[0] != Py_None;
  while (is_known && height > 0 && num <= most) {
    PyObject* node = seen[stack[--height]];
    const Ref order(PyObject_CallMethodObjArgs(node, s_sequence_nr, nullptr));
    const unsigned long long number = order ? PyLong_AsUnsignedLongLong(order.get()) : 0;
    is_known = order && !PyErr_Occurred();
    if (!is_known || number == leaf || (after >= 0 && number <= static_cast<unsigned long long>(after))) continue;
    const Ref name(PyObject_CallMethodObjArgs(node, s_name, nullptr)), sources(PyObject_GetAttr(node, s_next_functions));
    is_known = name && sources && PyTuple_Check(sources.get()) && (PyDict_Contains(names, name.get()) == 0 || is_regular(node, name.get()));
    for (Py_ssize_t i = 0; is_known && i < PyTuple_Size(sources.get()); ++i) {
      PyObject* source = source_at(sources.get(), i);
      bool is_new = source && source != Py_None;
      for (int k = 0; is_new && k < num; ++k) is_new = seen[k] != source;
      is_known = source && (!is_new || num < kMaxSeen);
      if (is_known && is_new) {
        stack[height++] = num;
        seen[num++] = source;
      } else {
        Py_XDECREF(source);
      }
    }
  }
  for (int k = 0; k < num; ++k) Py_DECREF(seen[k]);
  return is_known ? answer(Py_True) : unexpected(Py_False);
}

bool has_no_dimension(PyObject* tensor) {
  void* handle;
  int64_t num;
  return by_torch.num_dims && type_of(tensor) == tensor_type && handle_of(tensor, &handle) && by_torch.num_dims(&handle, &num) == 0 && num == 0;
}

// loss_as_before(loss, top, calls, shape, hops, leaf, names, most) -> int: of `top` the number and behind it one bit, whether something below may
// have to be held; -1 where its shape is another one, or where Python must look. For the usual loss, one or two operations on the result of a model,
// nothing is asked of the graph's metadata, which makes many objects.
PyObject* loss_as_before(PyObject*, PyObject* const* given, Py_ssize_t num_given) {
  int64_t order, most, after = -1;
  if (num_given != 8 || !PyTuple_Check(given[3]) || !PyDict_Check(given[6]) || !number(answer(given[7]), &most) ||
      !number(PyObject_CallMethodObjArgs(given[1], s_sequence_nr, nullptr), &order)) {
    return unexpected(minus_one);
  }
  PyObject *top = given[1], *calls = given[2], *shape = given[3], *names = given[6];
  const HeldFields* latest = nullptr;
  for (Py_ssize_t i = 0; PyList_Check(calls) && i < PyList_Size(calls); ++i) {
    PyObject* each = PyList_GetItem(calls, i);
    if (!is_held_call(each)) return unexpected(minus_one);
    if (fields_of(each).last <= after) continue;
    latest = &fields_of(each);
    after = latest->last;
  }
  bool is_same = latest && latest->num_sizes > 0 && latest->num_sizes == PyTuple_Size(shape);
  for (int i = 0; is_same && i < latest->num_sizes; ++i) {
    int64_t size;
    is_same = number(answer(PyTuple_GetItem(shape, i)), &size) && size == latest->sizes[i];
  }
  if (is_same && most > 3 && is_behind(top, *latest, names, has_no_dimension(given[0]))) return PyLong_FromLongLong(order << 1);
  PyErr_Clear();
  const Ref asked(PyTuple_Pack(2, top, given[4])), found(asked ? shape_below(nullptr, asked.get()) : nullptr);
  if (!found || found.get() == Py_None || PyObject_RichCompareBool(found.get(), shape, Py_EQ) != 1) return unexpected(minus_one);
  const Ref listed(Py_BuildValue("([O]LOOO)", top, static_cast<long long>(after), given[5], names, given[7])),
      has(listed ? has_none(nullptr, listed.get()) : nullptr);
  return has ? PyLong_FromLongLong(order << 1 | (has.get() == Py_True ? 0 : 1)) : unexpected(minus_one);
}

// number_of_loss(tensor) -> float | None: of a plain tensor of no dimension, float32, in memory of the CPU that there is
PyObject* number_of_loss(PyObject*, PyObject* tensor) {
  double value;
  int32_t dtype;
  if (!takes_number(tensor, &dtype, &value) || dtype != kFloat32) return unexpected(Py_None);
  return PyFloat_FromDouble(value);
}

// identities(objects) -> bytes
PyObject* identities(PyObject*, PyObject* objects) {
  if (!PyList_Check(objects)) {
    PyErr_SetString(PyExc_TypeError, "not a list");
    return nullptr;
  }
  const Py_ssize_t n = PyList_Size(objects);
  PyObject* found = PyBytes_FromStringAndSize(nullptr, n * static_cast<Py_ssize_t>(sizeof(uint64_t)));
  char* bytes = found ? PyBytes_AsString(found) : nullptr;
  for (Py_ssize_t i = 0; bytes && i < n; ++i) {
    const uint64_t id = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(PyList_GetItem(objects, i)));
    std::memcpy(bytes + i * static_cast<Py_ssize_t>(sizeof(id)), &id, sizeof(id));
  }
  return found;
}

bool number_in(PyObject* numbers, PyObject* key, int64_t* value) {
  PyObject* found = key ? PyDict_GetItemWithError(numbers, key) : nullptr;  // borrowed
  return found && number(answer(found), value);
}

// slice_table(slices, numbers, sizes, address) -> (bytes, num_bytes) | None
PyObject* slice_table(PyObject*, PyObject* args) {
  PyObject *slices, *numbers, *sizes;
  unsigned long long address;
  if (!PyArg_ParseTuple(args, "O!O!O!K", &PyList_Type, &slices, &PyDict_Type, &numbers, &PyDict_Type, &sizes, &address)) {
    return unexpected(Py_None);
  }
  const Py_ssize_t n = PyList_Size(slices);
  const Ref table(PyBytes_FromStringAndSize(nullptr, n * kSliceWords * static_cast<Py_ssize_t>(sizeof(int64_t))));
  if (!table) return unexpected(Py_None);
  int64_t copied = 0, marked = 0;
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* slice = PyList_GetItem(slices, i);
    if (!PyTuple_Check(slice) || PyTuple_Size(slice) != 4) return unexpected(Py_None);
    PyObject *weight = PyTuple_GetItem(slice, 0), *gradient = PyTuple_GetItem(slice, 1);
    int64_t start, count, size, own, where, gradient_size, words[kSliceWords] = {};
    if (!is_plain(weight) || !number(answer(PyTuple_GetItem(slice, 2)), &start) || !number(answer(PyTuple_GetItem(slice, 3)), &count)) {
      return unexpected(Py_None);
    }
    const Ref dtype(PyObject_GetAttr(weight, s_dtype));
    if (!number_in(numbers, dtype.get(), &own) || !number_in(sizes, dtype.get(), &size) || !address_of(weight, &where)) return unexpected(Py_None);
    words[0] = where + start * size;
    words[2] = copied;  // the marks, which are behind all copies, when these are known
    words[3] = marked;
    words[4] = count;
    words[5] = words[6] = own;
    if (gradient != Py_None) {
      const Ref other(is_plain(gradient) ? PyObject_GetAttr(gradient, s_dtype) : nullptr);
      if (!number_in(numbers, other.get(), &words[6]) || !number_in(sizes, other.get(), &gradient_size) || !address_of(gradient, &where)) {
        return unexpected(Py_None);
      }
      words[1] = where + start * gradient_size;
    }
    copied += (count * size + 7) & ~INT64_C(7);
    marked += count;
    std::memcpy(PyBytes_AsString(table.get()) + i * static_cast<Py_ssize_t>(sizeof(words)), words, sizeof(words));
  }
  for (Py_ssize_t i = 0; i < n; ++i) {
    int64_t words[kSliceWords];
    char* place = PyBytes_AsString(table.get()) + i * static_cast<Py_ssize_t>(sizeof(words));
    std::memcpy(words, place, sizeof(words));
    words[2] += static_cast<int64_t>(address);
    words[3] += static_cast<int64_t>(address) + copied;
    std::memcpy(place, words, sizeof(words));
  }
  const Ref total(PyLong_FromLongLong(copied + marked));
  PyObject* found = total ? PyTuple_Pack(2, table.get(), total.get()) : nullptr;
  return found ? found : unexpected(Py_None);
}

// of_kinds(things, kinds) -> list | None: each class is asked once, by its address, so neither a hash nor a comparison of the program's runs.
PyObject* of_kinds(PyObject*, PyObject* args) {
  PyObject *things, *kinds;
  if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &things, &PyTuple_Type, &kinds)) return unexpected(Py_None);
  const Py_ssize_t num_kinds = PyTuple_Size(kinds);
  for (Py_ssize_t k = 0; k < num_kinds; ++k) {
    if (type_of(PyTuple_GetItem(kinds, k)) != reinterpret_cast<PyObject*>(&PyType_Type)) return unexpected(Py_None);
  }
  Ref found(PyList_New(0));
  if (!found) return unexpected(Py_None);
  try {
    std::unordered_map<PyTypeObject*, bool> is_wanted;
    for (Py_ssize_t i = 0; i < PyList_Size(things); ++i) {
      PyObject* thing = PyList_GetItem(things, i);
      PyTypeObject* own = Py_TYPE(thing);
      const auto [known, is_new] = is_wanted.try_emplace(own, false);
      for (Py_ssize_t k = 0; is_new && k < num_kinds; ++k) {
        known->second = known->second || PyType_IsSubtype(own, reinterpret_cast<PyTypeObject*>(PyTuple_GetItem(kinds, k)));
      }
      if (known->second && PyList_Append(found.get(), thing) < 0) return unexpected(Py_None);
    }
  } catch (const std::bad_alloc&) {
    return unexpected(Py_None);
  }
  return found.release();
}

bool intern(PyObject** name, const char* text) { return (*name = PyUnicode_InternFromString(text)) != nullptr; }

#include "rare_reads.inc"
#include "row_entries.inc"

PyMethodDef functions[] = {
    {"marks", marks, METH_O, nullptr},
    {"gradients", gradients, METH_VARARGS, nullptr},
    {"fill", fill, METH_VARARGS, nullptr},
    {"use_torch", use_torch, METH_O, nullptr},
    {"unchanged", unchanged, METH_O, nullptr},
    {"keep", keep, METH_O, nullptr},
    {"number_of_dtype", number_of_dtype, METH_VARARGS, nullptr},
    {"keeper", keeper, METH_VARARGS, nullptr},
    {"measure", measure, METH_VARARGS, nullptr},
    {"entered", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(entered)), METH_FASTCALL, nullptr},
    {"left", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(left)), METH_FASTCALL, nullptr},
    {"shape_below", shape_below, METH_VARARGS, nullptr},
    {"has_none", has_none, METH_VARARGS, nullptr},
    {"loss_as_before", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(loss_as_before)), METH_FASTCALL, nullptr},
    {"number_of_loss", number_of_loss, METH_O, nullptr},
    {"identities", identities, METH_O, nullptr},
    {"slice_table", slice_table, METH_VARARGS, nullptr},
    {"of_kinds", of_kinds, METH_VARARGS, nullptr},
    {"keep_slices", keep_slices, METH_VARARGS, nullptr},
    {"compare_slices", compare_slices, METH_VARARGS, nullptr},
    {"measure_sample", measure_sample, METH_VARARGS, nullptr},
    {"mean_of_loss", mean_of_loss, METH_VARARGS, nullptr},
    {"num_parameters_below", num_parameters_below, METH_O, nullptr},
    {"sketch", sketch, METH_VARARGS, nullptr},
    {"moments", moments, METH_VARARGS, nullptr},
    {"event_entries", event_entries, METH_O, nullptr},
    {"step_entries", step_entries, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_tensor_reads", nullptr, -1, functions, nullptr, nullptr, nullptr, nullptr};

bool take(PyObject** place, PyObject* owner, const char* name) { return owner && (*place = PyObject_GetAttrString(owner, name)) != nullptr; }

bool prepare() {
  const Ref torch(PyImport_ImportModule("torch"));
  if (!torch) return false;
  PyObject* storage_type = nullptr;
  torch_module = answer(torch.get());
  const Ref nn(PyObject_GetAttrString(torch.get(), "nn")), own(PyObject_GetAttrString(torch.get(), "_C"));
  const bool found = take(&tensor_type, torch.get(), "Tensor") && take(&parameter_type, nn.get(), "Parameter") &&
                     take(&strided, torch.get(), "strided") && take(&is_functional, torch.get(), "_is_functional_tensor") &&
                     take(&storage_type, torch.get(), "UntypedStorage") && take(&storage_nbytes, storage_type, "nbytes") &&
                     take(&untyped_storage, tensor_type, "untyped_storage") && take(&storage_offset, tensor_type, "storage_offset") &&
                     take(&data_ptr, tensor_type, "data_ptr") && take(&is_contiguous, tensor_type, "is_contiguous") &&
                     take(&is_neg, tensor_type, "is_neg") && take(&is_grad_enabled, torch.get(), "is_grad_enabled") &&
                     take(&is_autocast, torch.get(), "is_autocast_enabled") && take(&autocast_dtype, torch.get(), "get_autocast_dtype") &&
                     take(&num_modes, own.get(), "_len_torch_function_stack") && take(&num_dispatch_modes, own.get(), "_len_torch_dispatch_stack") &&
                     take(&graph_task, own.get(), "_current_graph_task_id");
  Py_XDECREF(storage_type);
  any_autocast = PyObject_GetAttrString(own.get(), "_is_any_autocast_enabled");  // not in every version
  PyErr_Clear();
  return found && intern(&s_grad, "grad") && intern(&s_cdata, "_cdata") && intern(&s_version, "_version") && intern(&s_layout, "layout") &&
         intern(&s_is_cpu, "is_cpu") && intern(&s_dtype, "dtype") && intern(&s_nbytes, "nbytes") && intern(&s_element_size, "element_size") &&
         intern(&s_requires_grad, "requires_grad") && intern(&s_weight, "weight") && intern(&s_rows, "rows") && intern(&s_kept, "kept") &&
         intern(&s_shape, "shape") && intern(&s_where, "where") && intern(&s_cpu, "cpu") && intern(&s_default_generator, "default_generator") &&
         intern(&s_get_state, "get_state") && intern(&s_grad_fn, "grad_fn") && intern(&s_sequence_nr, "_sequence_nr") &&
         intern(&s_register_hook_dict, "_register_hook_dict") && intern(&s_backward_hooks, "_backward_hooks") && intern(&s_is_paused, "is_paused") &&
         intern(&s_calls, "calls") &&

         intern(&s_empty, "") && intern(&s_output_nr, "output_nr") && intern(&s_next_functions, "next_functions") &&
         intern(&s_input_metadata, "_input_metadata") && intern(&s_name, "name") && intern(&s_saved_exponent, "_saved_exponent") &&
         intern(&s_is_nested, "is_nested") && intern(&s_raw_other, "_raw_saved_other") && prepare_held() &&
         (minus_one = PyLong_FromLong(-1)) != nullptr && prepare_rare() && prepare_entries();
}

}  // namespace

PyMODINIT_FUNC PyInit__tensor_reads() {
  if (!prepare()) return nullptr;
  PyObject* module = PyModule_Create(&definition);
  if (module && (PyModule_AddIntConstant(module, "INTERFACE", kInterface) < 0 ||
                 PyModule_AddObjectRef(module, "HeldFields", reinterpret_cast<PyObject*>(held_fields_type)) < 0)) {
    Py_DECREF(module);
    return nullptr;
  }
  return module;
}
