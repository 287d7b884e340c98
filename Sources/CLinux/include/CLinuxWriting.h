// Writing to open files. Results as in CLinux.h: a value, or -errno.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// One write at the end of the file, wherever that is now: pwritev2(2) with RWF_APPEND. May write less than `length`.
ssize_t larder_append(int fd, const void *bytes, size_t length);
ssize_t larder_copy_range(int from, uint64_t from_offset, int to, uint64_t to_offset, size_t length);
// lseek(2) with SEEK_DATA or SEEK_HOLE, which are declared only under _GNU_SOURCE.
int64_t larder_seek_data(int fd, uint64_t offset);
int64_t larder_seek_hole(int fd, uint64_t offset);
