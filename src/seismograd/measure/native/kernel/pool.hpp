// Threads that wait for work: the caller's own and a few more.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif

namespace seismograd {

class Pool {
 public:
  // Calls work(task) once for every task below num_tasks, on the calling thread and on up to num_threads - 1 others; returns when all are
  // done. While another thread's call is under way, all are done on the calling thread.
  template <class Work>
  void run(int num_threads, int64_t num_tasks, Work& work) {
    Job job{[](void* w, int64_t task) { (*static_cast<Work*>(w))(task); }, &work, num_tasks};
    std::unique_lock<std::mutex> turn(turn_, std::defer_lock);
    if (num_threads <= 1 || num_tasks <= 1 || !turn.try_lock()) return job.take_part();
    start(num_threads - 1);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      num_wanted_ = num_threads - 1;
    }
    wake_.notify_all();
    job.take_part();
    std::unique_lock<std::mutex> lock(mutex_);
    job_ = nullptr;  // who has not come yet need not come any more
    // Those that are still at their last task will be done in a moment, sooner than a sleeping thread wakes.
    for (int spins = 0; num_working_ > 0 && spins < kSpins; ++spins) {
      lock.unlock();
      std::this_thread::yield();
      lock.lock();
    }
    done_.wait(lock, [this] { return num_working_ == 0; });
  }

  // Ends the threads; a later call of `run` starts others.
  void stop() {
    const std::lock_guard<std::mutex> turn(turn_);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    is_stopping_ = false;
  }

 private:
  static constexpr int kSpins = 200;

  struct Job {
    void (*work)(void*, int64_t);
    void* context;
    int64_t num_tasks;
    std::atomic<int64_t> next{0};

    void take_part() {
      for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < num_tasks;) work(context, task);
    }
  };

  void start(int num_threads) {
    if (static_cast<int>(threads_.size()) >= num_threads) return;
#if !defined(_WIN32)
    // A thread inherits its mask: the program's signals are for the program's own threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
    try {
      while (static_cast<int>(threads_.size()) < num_threads) threads_.emplace_back([this] { serve(); });
    } catch (const std::system_error&) {
      // The system gives no more threads: those that there are do it.
    }
#if !defined(_WIN32)
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return is_stopping_ || (job_ && num_wanted_ > 0); });
      if (is_stopping_) return;
      Job& job = *job_;
      --num_wanted_;
      ++num_working_;
      lock.unlock();
      job.take_part();
      lock.lock();
      if (--num_working_ == 0) done_.notify_all();
    }
  }

  std::mutex turn_;  // held for as long as a call uses the threads
  std::vector<std::thread> threads_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  int num_wanted_ = 0;   // threads that may still join the job
  int num_working_ = 0;  // threads at the job, besides the caller's
  bool is_stopping_ = false;
};

// The pool of this process. It is never destroyed, for at the exit of a process its threads may be anywhere.
inline Pool& pool() {
  static std::atomic<Pool*> current{nullptr};
#if !defined(_WIN32)
  // A forked child has none of the threads, and locks as they were held at that moment: it begins anew.
  static const int registered = pthread_atfork(nullptr, nullptr, [] { current = nullptr; });
  static_cast<void>(registered);
#endif
  Pool* found = current;
  if (!found) {
    Pool* made = new Pool;
    if (current.compare_exchange_strong(found, made)) return *made;
    delete made;
  }
  return *found;
}

}  // namespace seismograd
