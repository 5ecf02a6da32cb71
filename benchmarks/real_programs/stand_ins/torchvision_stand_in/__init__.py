"""What three of the programs use of torchvision, in its words.

It only makes, reads, shapes and saves pictures; nothing here trains. It is taken where torchvision
is not installed, for there may be no build of it for the torch that is; and under a name of its
own, so that no library takes it for the real one.
"""

from __future__ import annotations
