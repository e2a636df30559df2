"""System calls that Python has no function for."""

import ctypes
import os

from harness import libc

AT_FDCWD = -100
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE = 1, 2

libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p] * 2 + [ctypes.c_uint]
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mmap.restype = ctypes.c_void_p
libc.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.memmove.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
libc.opendir.argtypes, libc.opendir.restype = [ctypes.c_char_p], ctypes.c_void_p
libc.readdir.argtypes, libc.readdir.restype = [ctypes.c_void_p], ctypes.c_void_p
libc.telldir.argtypes, libc.telldir.restype = [ctypes.c_void_p], ctypes.c_long
libc.seekdir.argtypes, libc.seekdir.restype = [ctypes.c_void_p, ctypes.c_long], None
libc.rewinddir.argtypes, libc.rewinddir.restype = [ctypes.c_void_p], None
libc.closedir.argtypes = [ctypes.c_void_p]


def checked(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def renameat2(old, new, flags):
    checked(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def fallocate(fd, mode, offset, length):
    checked(libc.fallocate(fd, mode, offset, length))


def change_mapped(fd, data):
    """Maps the file, writes `data` to its beginning, and waits for that. Other than with module mmap, the
    other threads of this process go on meanwhile."""
    at = libc.mmap(None, len(data), 3, 1, fd, 0)  # PROT_READ | PROT_WRITE, MAP_SHARED
    if at == ctypes.c_void_p(-1).value:
        checked(-1)
    try:
        libc.memmove(at, data, len(data))
        checked(libc.msync(at, len(data), 4))  # MS_SYNC
    finally:
        libc.munmap(at, len(data))


class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_ushort),
                ("type", ctypes.c_ubyte), ("name", ctypes.c_char * 256)]


class Dir:
    """A directory stream, as opendir(3) gives it."""

    def __init__(self, path):
        self.stream = libc.opendir(os.fsencode(path))
        if not self.stream:
            checked(-1)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        libc.closedir(self.stream)

    def next(self):
        """(name, inode number, type) or None at the end."""
        at = libc.readdir(self.stream)
        if not at:
            return None
        entry = Dirent.from_address(at)
        name = ctypes.string_at(at + Dirent.name.offset)
        return name.decode(errors="surrogateescape"), entry.ino, entry.type

    def rest(self):
        names = []
        while (entry := self.next()) is not None:
            names.append(entry[0])
        return names

    def tell(self):
        return libc.telldir(self.stream)

    def seek(self, position):
        libc.seekdir(self.stream, position)

    def rewind(self):
        libc.rewinddir(self.stream)
