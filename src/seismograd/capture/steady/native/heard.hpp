// What the visits have heard since a part of the session has last run in Python: numbers beside each other in place of objects all over the memory,
// which the training has emptied from the processor's caches. Whoever takes the session's lock is given the objects first (`hand_over`).

#pragma once

#include <array>
#include <vector>

#include "objects.hpp"

namespace seismograd {

// Which tensor a gradient is and how often it was changed, as `tensor_reads.marks` has it; no tensor where there is none.
struct Mark {
  PyObject* gradient = nullptr;  // only for its address
  int64_t version = 0;

  bool operator==(const Mark& other) const { return gradient == other.gradient && version == other.version; }
};

struct Marks {
  std::vector<Mark> each;

  bool operator==(const Marks& other) const { return each == other.each; }
  bool are_none() const;
};

// Take what a list of Python's has; false where it is not one of marks.
bool take(const Ref& listed, Marks* marks);

// The same as such a list.
Ref listed(const Marks& marks);

// A call of which an event is made.
struct HeardCall {
  double time_s = 0;  // by `time.perf_counter`
  Ref site;
  int64_t flags = 0;
};

struct HeardBackward : HeardCall {
  Ref number, scale, reduction;  // of the loss; no reduction: `None`
  int64_t touched = 0;
  bool is_used = false;  // by a step
  Ref loss, captured;    // once they were made
};

// The gradients that a step uses, as they were read.
struct HeardReading {
  bool is_ordinary = true;
  Ref numbers, scale, losses, loss_scale;  // no losses: that of the backward before
  Ref of_weights, exponents;               // of a step with samples: the numbers of the weights, and of each gradient
};

struct HeardStep : HeardCall {
  Ref rate, scale, clips, probed;  // no clips: an empty tuple; nothing was probed: `None`
  int64_t number = 0, num_backwards = 0;
  bool is_ended = false;
  HeardReading reading;
  Ref ready;           // that reading, once it was made
  Ref step, captured;  // once they were made
};

enum class Heard { kZeroGrad, kBackward, kStep };

// An iteration, with one call of each kind at most behind those that Python has.
struct HeardIteration {
  Ref object;  // once it was made
  int64_t number = -1;
  double overhead_s = 0, ended_s = 0;
  Ref epoch;  // `None` for that of the queue
  int num_heard = 0;
  std::array<Heard, 3> order = {};
  HeardCall zero_grad;
  HeardBackward backward;
  HeardStep step;

  bool has(Heard call) const;
  void hear(Heard call) { order[static_cast<size_t>(num_heard++)] = call; }
};

}  // namespace seismograd
