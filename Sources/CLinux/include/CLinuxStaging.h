// Copying between files within the kernel. Results as in CLinux.h: a value, or -errno.
#pragma once
#include <stdint.h>
#include <sys/types.h>

int larder_clone(int to, int from);  // ioctl_ficlone(2)
// copy_file_range(2) of up to `length` bytes at `offset` of both files; 0 at the end of `from`.
ssize_t larder_copy_piece(int from, int to, uint64_t offset, size_t length);
