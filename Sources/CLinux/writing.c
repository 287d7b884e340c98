#define _GNU_SOURCE
#include "CLinuxWriting.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

ssize_t larder_append(int fd, const void *bytes, size_t length) {
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
    ssize_t count = pwritev2(fd, &part, 1, 0, RWF_APPEND);
    return count < 0 ? -errno : count;
}

ssize_t larder_copy_range(int from, uint64_t from_offset, int to, uint64_t to_offset, size_t length) {
    loff_t in = (loff_t)from_offset, out = (loff_t)to_offset;
    ssize_t count = copy_file_range(from, &in, to, &out, length, 0);
    return count < 0 ? -errno : count;
}

int64_t larder_seek_data(int fd, uint64_t offset) {
    off_t place = lseek(fd, (off_t)offset, SEEK_DATA);
    return place < 0 ? -errno : place;
}

int64_t larder_seek_hole(int fd, uint64_t offset) {
    off_t place = lseek(fd, (off_t)offset, SEEK_HOLE);
    return place < 0 ? -errno : place;
}
