// Work for several threads: tensors in pieces, pieces in tasks.
#pragma once

#include <cstdint>
#include <vector>

#include "entry.hpp"
#include "pool.hpp"

namespace seismograd {

constexpr int64_t kPieceNumbers = 64 * 3584;  // whole blocks of every set of instructions, and less than a tenth of a millisecond
constexpr int64_t kTaskBytes = 1 << 18;       // small tensors are grouped until they are worth the taking
constexpr int64_t kSerialBytes = 1 << 22;       // below, it is read before another thread is awake

inline int64_t item_size_of(int64_t dtype) {
  switch (static_cast<DType>(dtype)) {
    case DType::kFloat64:
      return 8;
    case DType::kFloat32:
      return 4;
    default:
      return 2;
  }
}

struct Piece {
  int64_t entry, begin, end;
};

// All numbers of all entries in pieces that do not depend on the number of threads (so neither do the results), and the pieces in tasks.
struct Split {
  std::vector<Piece> pieces;
  std::vector<int64_t> ends;  // task t is pieces [ends[t - 1], ends[t])
  int64_t num_bytes = 0;

  Split(const Entry* entries, int64_t num_entries) {
    pieces.reserve(static_cast<size_t>(num_entries));
    int64_t task_bytes = 0;
    for (int64_t i = 0; i < num_entries; ++i) {
      const int64_t size = item_size(entries[i]);
      for (int64_t begin = 0; begin < entries[i].count; begin += kPieceNumbers) {
        const int64_t end = begin + kPieceNumbers < entries[i].count ? begin + kPieceNumbers : entries[i].count;
        pieces.push_back({i, begin, end});
        num_bytes += (end - begin) * size;
        task_bytes += (end - begin) * size;
        if (task_bytes >= kTaskBytes) {
          ends.push_back(static_cast<int64_t>(pieces.size()));
          task_bytes = 0;
        }
      }
    }
    if (task_bytes > 0) ends.push_back(static_cast<int64_t>(pieces.size()));
  }

  static int64_t item_size(const Entry& entry) { return item_size_of(entry.dtype); }

  // Calls work(piece number) for every piece.
  template <class Work>
  void run(int num_threads, Work work) const {
    auto do_task = [&](int64_t task) {
      for (int64_t p = task == 0 ? 0 : ends[task - 1]; p < ends[task]; ++p) work(p);
    };
    const int64_t num_tasks = static_cast<int64_t>(ends.size());
    pool().run(num_bytes < kSerialBytes ? 1 : num_threads, num_tasks, do_task);
  }
};

}  // namespace seismograd
