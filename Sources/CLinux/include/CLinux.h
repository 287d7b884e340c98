// System calls that Glibc's Swift overlay lacks, hides behind variadics, or reports through errno.
// Every function returns its result, or -errno: a reference count taken between the call and a read of
// errno could clobber it.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "CLinuxDigests.h"
#include "CLinuxFiles.h"
#include "CLinuxProcess.h"
#include "CLinuxStaging.h"
#include "CLinuxWriting.h"

// A stat result in fixed widths, so that Swift sees one layout on every C library.
struct larder_stat {
    uint64_t inode, size, blocks;  // blocks: 512-byte units, as stat(2)
    uint32_t mode, uid, gid, links;
    uint32_t device_major, device_minor, rdev_major, rdev_minor;
    int64_t atime_seconds, mtime_seconds, ctime_seconds;
    uint32_t atime_nanoseconds, mtime_nanoseconds, ctime_nanoseconds, block_size;
};

// AT_EMPTY_PATH, which Glibc defines only under _GNU_SOURCE.
enum { LARDER_AT_EMPTY_PATH = 0x1000 };
// O_PATH, likewise.
enum { LARDER_O_PATH = 010000000 };

// One directory entry as getdents64(2) gives it; `name` points into the caller's buffer.
struct larder_dirent {
    uint64_t inode;
    int64_t next_offset;
    uint8_t type;
    const char *name;
    uint16_t name_length;
    uint16_t record_length;
};

// openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS; glibc has no wrapper.
int larder_open_beneath(int directory, const char *path, int flags, unsigned mode, int follow_symlinks);
int larder_open(const char *path, int flags, unsigned mode);  // open(2) is variadic
int larder_statx(int directory, const char *path, int flags, struct larder_stat *out);
ssize_t larder_getdents(int directory, void *buffer, size_t size);
// Decodes the record at `offset` of a getdents buffer; 0 when the buffer is exhausted.
int larder_dirent_at(const void *buffer, size_t filled, size_t offset, struct larder_dirent *out);

int larder_memfd(const char *name);
int larder_pipe(int ends[2]);  // pipe2(2), close-on-exec
int larder_eventfd(void);
int larder_punch_hole(int fd, uint64_t offset, uint64_t length);
int larder_set_thread_name(const char *name);

// Unix SOCK_SEQPACKET sockets, close-on-exec, with the peer's credentials and passed descriptors.
int larder_unix_listen(const char *path, int backlog);
int larder_unix_connect(const char *path);
int larder_unix_pair(int pair[2]);
int larder_unix_accept(int listener);
int larder_peer_credentials(int socket, int32_t *pid, uint32_t *uid, uint32_t *gid);
ssize_t larder_send(int socket, const void *bytes, size_t length, const int *fds, size_t fd_count);
// Receives one message. A message longer than `capacity`, or with more than `fd_capacity` descriptors, is
// -EMSGSIZE and its descriptors are closed. Returns 0 when the peer has closed.
ssize_t larder_receive(int socket, void *bytes, size_t capacity, int *fds, size_t fd_capacity, size_t *fd_count);

// FUSE_DEV_IOC_BACKING_OPEN / _CLOSE (Linux 6.9, include/uapi/linux/fuse.h; newer than Debian 12's headers).
int larder_fuse_backing_open(int fuse, int backing);
int larder_fuse_backing_close(int fuse, int backing_id);

int larder_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data);
int larder_unmount(const char *target, int flags);

// The effective capability set of this thread as a bit mask (capabilities(7)).
int larder_effective_capabilities(uint64_t *mask);
int larder_flock_exclusive(int fd);

// A memfd of `size` bytes that can be sealed, and sealing it against resizing and against writers other than the
// mappings that exist (F_SEAL_SHRINK, _GROW, _FUTURE_WRITE, _SEAL; Linux 5.1).
int larder_memfd_sealable(const char *name, uint64_t size);
int larder_seal_for_readers(int fd);
// Whether `fd` is sealed against shrinking, so that a mapping of it can never fault with SIGBUS.
int larder_cannot_shrink(int fd);
int larder_syncfs(int fd);  // syncfs(2) is declared only under _GNU_SOURCE
