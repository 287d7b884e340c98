#define _GNU_SOURCE
#include "CLinuxStaging.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

int larder_clone(int to, int from) {
    return ioctl(to, FICLONE, from) == 0 ? 0 : -errno;
}

ssize_t larder_copy_piece(int from, int to, uint64_t offset, size_t length) {
    off64_t in = (off64_t)offset, out = (off64_t)offset;
    ssize_t result = copy_file_range(from, &in, to, &out, length, 0);
    return result < 0 ? -errno : result;
}
