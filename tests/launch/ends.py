"""Ways in which a program ends. Each is run by `python` and by `seismograd run`, and must end
alike; docs/ends.md lists them.

A program finds `train(n)` beside it, which makes n steps.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

LOOP = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

def train(steps, pause=0.0):
    import time
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(torch.ones(2, 4)).square().mean()
        loss.backward()
        optimizer.step()
        time.sleep(pause)
    return loss.item()
"""


# The interpreter ends itself by SIGINT, or with 1 where something at exit makes a named tuple, as
# torch does once it has imported its compiler: either is right when `python` does the same.
INTERRUPTED = -signal.SIGINT


@dataclass(frozen=True)
class End:
    """One program.

    Args:
        name: what it does, for the table.
        text: its text.
        code: the exit code that both must have; negative: ended by this signal.
        steps: how many steps are recorded, `None` where that depends on when it ends.
        sent: a signal sent to it when it has printed "ready".
        record_ends: whether the record has its end; a process that is killed leaves one without.
    """

    name: str
    text: str
    code: int = 0
    steps: int | None = 0
    sent: int = 0
    record_ends: bool = True


ENDS = (
    End("the end of the program", "from loop import train\nprint(train(3))", steps=3),
    End(
        "a ThreadPoolExecutor left open",
        """
        from concurrent.futures import ThreadPoolExecutor
        from loop import train
        pool = ThreadPoolExecutor(2)
        print(pool.submit(train, 3).result())
        """,
        steps=3,
    ),
    End(
        "a ThreadPoolExecutor left open with work waiting",
        """
        from concurrent.futures import ThreadPoolExecutor
        from loop import train
        pool = ThreadPoolExecutor(1)
        for _ in range(3):
            pool.submit(lambda: print(train(2, 0.1)))
        print("main ends")
        """,
        steps=6,
    ),
    End(
        "a ProcessPoolExecutor left open",
        """
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        from loop import train
        if __name__ == "__main__":
            pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
            print(list(pool.map(abs, [-1, -2])), train(3))
        """,
        steps=3,
    ),
    End(
        "joblib's loky left open",
        """
        from joblib import Parallel, delayed
        from loop import train
        print(Parallel(n_jobs=2)(delayed(abs)(i) for i in (-1, -2)), train(3))
        """,
        steps=3,
    ),
    End(
        "a thread that goes on training",
        """
        import threading
        from loop import train
        threading.Thread(target=lambda: print("thread", train(5, 0.1))).start()
        print("main ends", flush=True)
        """,
        steps=5,
    ),
    End(
        "a thread that ends when the main thread has",
        """
        import threading, time
        from loop import train
        def writer():
            while threading.main_thread().is_alive():
                time.sleep(0.05)
            print("writer ends")
        threading.Thread(target=writer).start()
        print(train(3))
        """,
        steps=3,
    ),
    End(
        "a thread that is told by threading's own exit",
        """
        import queue, threading
        from loop import train
        todo = queue.Queue()
        def worker():
            while (item := todo.get()) is not None:
                print(item)
            print("worker ends")
        threading.Thread(target=worker).start()
        threading._register_atexit(lambda: todo.put(None))
        todo.put(train(3))
        """,
        steps=3,
    ),
    End(
        "a daemon thread that waits for ever",
        """
        import threading
        from loop import train
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        print(train(3))
        """,
        steps=3,
    ),
    End(
        "a daemon thread that is still training",
        """
        import threading, time
        from loop import train
        threading.Thread(target=train, args=(100_000, 0.01), daemon=True).start()
        time.sleep(0.5)
        print("main ends")
        """,
        steps=None,
    ),
    End(
        "a thread that raises",
        """
        import threading
        from loop import train
        def work():
            train(2)
            raise ValueError("in a thread")
        threading.Thread(target=work).start()
        """,
        steps=2,
    ),
    End(
        "sys.exit in a thread",
        """
        import sys, threading
        from loop import train
        thread = threading.Thread(target=lambda: sys.exit(train(2) and 7))
        thread.start(), thread.join()
        print("main goes on", train(1))
        """,
        steps=3,
    ),
    End(
        "a thread timer that is due later",
        """
        import threading
        from loop import train
        threading.Timer(0.5, lambda: print("late", train(2))).start()
        print(train(1))
        """,
        steps=3,
    ),
    End(
        "a multiprocessing pool left open",
        """
        import multiprocessing
        from loop import train
        if __name__ == "__main__":
            pool = multiprocessing.get_context("spawn").Pool(2)
            print(pool.map(abs, [-1, -2]), train(3))
        """,
        steps=3,
    ),
    End(
        "a multiprocessing manager left open",
        """
        import multiprocessing
        from loop import train
        if __name__ == "__main__":
            manager = multiprocessing.get_context("spawn").Manager()
            shared = manager.dict(a=1)
            print(dict(shared), train(3))
        """,
        steps=3,
    ),
    End(
        "a multiprocessing queue with things in it",
        """
        import multiprocessing
        from loop import train
        queue = multiprocessing.Queue()
        queue.put("x" * 100)
        print(train(3), queue.get()[:1])
        queue.put("left")
        """,
        steps=3,
    ),
    End(
        "a child process that is not joined",
        """
        import multiprocessing, time
        from loop import train
        def child():
            time.sleep(0.3)
            print("child ends", flush=True)
        if __name__ == "__main__":
            print(train(3), flush=True)
            multiprocessing.get_context("fork").Process(target=child).start()
        """,
        steps=3,
    ),
    End(
        "a daemon child process",
        """
        import multiprocessing, time
        from loop import train
        if __name__ == "__main__":
            multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,), daemon=True).start()
            print(train(3))
        """,
        steps=3,
    ),
    End(
        "a child process made by os.fork that exits with sys.exit",
        """
        import os, sys
        from loop import train
        train(3)
        child = os.fork()
        if not child:
            train(2)
            sys.exit(5)
        print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), train(1))
        """,
        steps=4,
    ),
    End(
        "a DataLoader with persistent workers",
        """
        import torch
        from loop import train
        data = torch.utils.data.DataLoader(range(8), batch_size=4, num_workers=2, persistent_workers=True)
        print([batch.tolist() for batch in data], train(3))
        kept = iter(data)
        print(next(kept).tolist())
        """,
        steps=3,
    ),
    End(
        "a DataLoader that pins memory in a thread, left in the middle",
        """
        import torch
        from loop import train
        data = iter(torch.utils.data.DataLoader(range(80), batch_size=4, num_workers=1))
        print(next(data).tolist(), train(3))
        """,
        steps=3,
    ),
    End(
        "an asyncio loop left open",
        """
        import asyncio
        from loop import train
        loop = asyncio.new_event_loop()
        async def forever():
            await asyncio.sleep(600)
        waiting = loop.create_task(forever())
        print(loop.run_until_complete(loop.run_in_executor(None, train, 3)))
        """,
        steps=3,
    ),
    End(
        "an asyncio loop that runs in a daemon thread",
        """
        import asyncio, threading
        from loop import train
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        async def work():
            return train(3)
        print(asyncio.run_coroutine_threadsafe(work(), loop).result())
        """,
        steps=3,
    ),
    End(
        "a call at exit that trains",
        """
        import atexit
        atexit.register(lambda: print("at exit", train(2)))
        from loop import train
        print(train(3))
        """,
        steps=5,
    ),
    End(
        "calls at exit, the last first, one of them raises",
        """
        import atexit
        from loop import train
        atexit.register(print, "registered first")
        @atexit.register
        def fails():
            raise RuntimeError("at exit")
        atexit.register(lambda: print("registered last", train(1)))
        print(train(2))
        """,
        steps=3,
    ),
    End(
        "a call at exit after an exception",
        """
        import atexit
        from loop import train
        atexit.register(lambda: print("at exit", train(1)))
        train(2)
        raise LookupError("of the script")
        """,
        code=1,
        steps=3,
    ),
    End(
        "sys.exit in a call at exit",
        "import atexit, sys\nfrom loop import train\natexit.register(sys.exit, 3)\nprint(train(2))",
        steps=2,
    ),
    End(
        "an object that is taken apart last",
        """
        from loop import train
        class Last:
            def __del__(self):
                print("taken apart")
        last = Last()
        print(train(2))
        """,
        steps=2,
    ),
    End("sys.exit()", "import sys\nfrom loop import train\ntrain(2)\nsys.exit()", steps=2),
    End("sys.exit(3)", "import sys\nfrom loop import train\ntrain(2)\nsys.exit(3)", code=3, steps=2),
    End("sys.exit(-1)", "import sys\nfrom loop import train\ntrain(2)\nsys.exit(-1)", code=255, steps=2),
    End("sys.exit(256)", "import sys\nfrom loop import train\ntrain(2)\nsys.exit(256)", steps=2),
    End("sys.exit with a text", "import sys\nfrom loop import train\ntrain(2)\nsys.exit('no good')", code=1, steps=2),
    End(
        "sys.exit with a thread still training",
        """
        import sys, threading
        from loop import train
        threading.Thread(target=lambda: print("thread", train(4, 0.1))).start()
        sys.exit(9)
        """,
        code=9,
        steps=4,
    ),
    End("an exception", "from loop import train\ntrain(2)\nraise ValueError('of the script')", code=1, steps=2),
    End(
        "an exception with an executor left open",
        """
        from concurrent.futures import ThreadPoolExecutor
        from loop import train
        pool = ThreadPoolExecutor(2)
        pool.submit(train, 2).result()
        raise ValueError("of the script")
        """,
        code=1,
        steps=2,
    ),
    End(
        "an exception group",
        "from loop import train\ntrain(2)\nraise ExceptionGroup('two', [ValueError(1), "
        "KeyError(2)])",
        code=1,
        steps=2,
    ),
    End("KeyboardInterrupt raised by the program", "from loop import train\ntrain(2)\nraise KeyboardInterrupt", code=INTERRUPTED, steps=2),
    End(
        "KeyboardInterrupt before torch has trained",
        "import torch\nraise KeyboardInterrupt",
        code=INTERRUPTED,
    ),
    End(
        "KeyboardInterrupt, and a call at exit that makes a named tuple",
        """
        import atexit, collections
        import torch
        atexit.register(collections.namedtuple, "Point", "x y")
        raise KeyboardInterrupt
        """,
        code=1,
    ),
    End(
        "a class of its own below KeyboardInterrupt",
        "from loop import train\nclass Stop(KeyboardInterrupt): pass\ntrain(2)\nraise Stop('now')",
        code=1,
        steps=2,
    ),
    End("os._exit(6)", "import os\nfrom loop import train\ntrain(2)\nos._exit(6)", code=6, steps=None, record_ends=False),
    End("os.abort()", "import os\nfrom loop import train\ntrain(2)\nos.abort()", code=-signal.SIGABRT, steps=None, record_ends=False),
    End(
        "os._exit in a thread",
        """
        import os, threading
        from loop import train
        train(2)
        threading.Thread(target=os._exit, args=(4,)).start()
        threading.Event().wait()
        """,
        code=4,
        steps=None,
        record_ends=False,
    ),
    End(
        "os.execv",
        """
        import os, sys
        from loop import train
        train(2)
        os.execv(sys.executable, [sys.executable, "-c", "print('another program')"])
        """,
        steps=None,
        record_ends=False,
    ),
    End(
        "a subprocess left running",
        """
        import subprocess, sys
        from loop import train
        text = "import time; time.sleep(0.5); print('subprocess ends')"
        left = subprocess.Popen([sys.executable, "-c", text])
        print(train(2), flush=True)
        left.returncode = 0  # no ResourceWarning
        """,
        steps=2,
    ),
    End(
        "stdout closed by the program",
        "import sys\nfrom loop import train\nprint(train(2))\nsys.stdout.close()",
        steps=2,
    ),
    End(
        "stdout that takes nothing more",
        "import os\nfrom loop import train\nprint(train(2))\nos.close(1)",
        code=120,
        steps=2,
    ),
    End(
        "Ctrl-C", "from loop import train\ntrain(2)\nprint('ready', flush=True)\ntrain(100_000, 0.01)",
        code=INTERRUPTED, steps=None, sent=signal.SIGINT,
    ),
    End(
        "Ctrl-C that the program catches",
        """
        from loop import train
        train(2)
        try:
            print("ready", flush=True)
            train(100_000, 0.01)
        except KeyboardInterrupt:
            print("caught")
        """,
        steps=None,
        sent=signal.SIGINT,
    ),
    End(
        "Ctrl-C while threads are awaited",
        """
        import threading, time
        from loop import train
        train(2)
        def work():
            threading.main_thread().join()
            print("ready", flush=True)
            time.sleep(1)
        threading.Thread(target=work).start()
        """,
        steps=2,
        sent=signal.SIGINT,
    ),
    End(
        "Ctrl-C with an executor left open",
        """
        from concurrent.futures import ThreadPoolExecutor
        from loop import train
        pool = ThreadPoolExecutor(1)
        pool.submit(train, 2).result()
        print("ready", flush=True)
        train(100_000, 0.01)
        """,
        code=INTERRUPTED,
        steps=None,
        sent=signal.SIGINT,
    ),
    End(
        "SIGTERM", "from loop import train\ntrain(2)\nprint('ready', flush=True)\ntrain(100_000, 0.01)",
        code=-signal.SIGTERM, steps=None, sent=signal.SIGTERM, record_ends=False,
    ),
    End(
        "SIGTERM with a handler that exits",
        """
        import signal, sys
        from loop import train
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        train(2)
        print("ready", flush=True)
        train(100_000, 0.01)
        """,
        code=143,
        steps=None,
        sent=signal.SIGTERM,
    ),
    End(
        "SIGHUP", "from loop import train\ntrain(2)\nprint('ready', flush=True)\ntrain(100_000, 0.01)",
        code=-signal.SIGHUP, steps=None, sent=signal.SIGHUP, record_ends=False,
    ),
    End(
        "SIGQUIT", "from loop import train\ntrain(2)\nprint('ready', flush=True)\ntrain(100_000, 0.01)",
        code=-signal.SIGQUIT, steps=None, sent=signal.SIGQUIT, record_ends=False,
    ),
    End(
        "SIGKILL", "from loop import train\ntrain(2)\nprint('ready', flush=True)\ntrain(100_000, 0.01)",
        code=-signal.SIGKILL, steps=None, sent=signal.SIGKILL, record_ends=False,
    ),
    End(
        "SIGALRM with a handler that raises",
        """
        import signal
        from loop import train
        train(2)
        def late(*_):
            raise TimeoutError("too late")
        signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        import time
        time.sleep(600)
        """,
        code=1,
        steps=2,
    ),
)  # fmt: skip
