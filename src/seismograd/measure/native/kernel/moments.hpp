// How large gradients are beside what an optimizer remembers of them.
#pragma once

#include <cstdint>

#include "machine.hpp"

namespace seismograd {

// Contiguous float32 numbers of one parameter: its gradient, times `scale`, and the averages of the squares and of the gradients, times
// their biases.
struct Moments {
  const float* gradients;
  const float* squares;
  const float* averages;  // null: none are kept
  int64_t count;
  double scale, bias_of_averages, bias_of_squares, eps;
};

// gradients, averages: sums of the squares of their ratios to the root of the mean square, where that is above zero: in so many `places`;
// below: how many roots are below eps.
struct Ratios {
  double gradients, averages, places, below;
};

// Without roots: the squares of the ratios are what is summed. No division is left out where there is nothing to divide by, so that the
// compiler can make several at once.
inline Ratios ratios_of(const Moments& moments) {
  constexpr int kChains = 8;  // sums side by side, which the compiler puts into vectors
  const float* averages = moments.averages ? moments.averages : moments.gradients;
  const double least = moments.eps * moments.eps * moments.bias_of_squares;
  double gradients[kChains] = {}, momenta[kChains] = {}, places[kChains] = {}, below[kChains] = {};
  auto add = [&](int64_t i, int chain) {
    const double square = moments.squares[i], gradient = moments.gradients[i], average = averages[i];
    const bool there = square > 0;
    const double inverse = 1 / (there ? square : 1);
    const double of_gradient = gradient * gradient * inverse, of_average = average * average * inverse;
    gradients[chain] += there ? of_gradient : 0;
    momenta[chain] += there ? of_average : 0;
    places[chain] += there ? 1.0 : 0.0;
    below[chain] += (square >= 0) & (square < least) ? 1.0 : 0.0;
  };
  int64_t i = 0;
  for (; i + kChains <= moments.count; i += kChains) {
    for (int chain = 0; chain < kChains; ++chain) add(i + chain, chain);
  }
  for (; i < moments.count; ++i) add(i, 0);
  Ratios found{};
  for (int chain = 0; chain < kChains; ++chain) {
    found.gradients += gradients[chain];
    found.averages += momenta[chain];
    found.places += places[chain];
    found.below += below[chain];
  }
  found.gradients *= moments.bias_of_squares / (moments.scale * moments.scale);
  found.averages *= moments.bias_of_squares / (moments.bias_of_averages * moments.bias_of_averages);
  return found;
}

}  // namespace seismograd
