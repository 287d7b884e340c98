#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#define RESULT(call) ({ __auto_type r_ = (call); r_ < 0 ? -errno : r_; })

_Static_assert(LARDER_O_PATH == O_PATH && LARDER_AT_EMPTY_PATH == AT_EMPTY_PATH, "the kernel's flags");

int larder_open_beneath(int directory, const char *path, int flags, unsigned mode, int follow_symlinks) {
    struct open_how how = {
        .flags = (uint64_t)(unsigned)flags,
        // openat2 refuses a mode without need of one; O_TMPFILE has the bit of O_DIRECTORY in it.
        .mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | (follow_symlinks ? 0 : RESOLVE_NO_SYMLINKS),
    };
    long fd;
    do fd = syscall(SYS_openat2, directory, path, &how, sizeof how);
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));  // EAGAIN: a rename raced with the walk
    return fd < 0 ? -errno : (int)fd;
}

int larder_open(const char *path, int flags, unsigned mode) {
    int fd;
    do fd = open(path, flags, mode);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

int larder_statx(int directory, const char *path, int flags, struct larder_stat *out) {
    struct statx st;
    if (statx(directory, path, flags, STATX_BASIC_STATS, &st) < 0) return -errno;
    *out = (struct larder_stat){
        .inode = st.stx_ino, .size = st.stx_size, .blocks = st.stx_blocks,
        .mode = st.stx_mode, .uid = st.stx_uid, .gid = st.stx_gid, .links = st.stx_nlink,
        .device_major = st.stx_dev_major, .device_minor = st.stx_dev_minor,
        .rdev_major = st.stx_rdev_major, .rdev_minor = st.stx_rdev_minor,
        .atime_seconds = st.stx_atime.tv_sec, .mtime_seconds = st.stx_mtime.tv_sec,
        .ctime_seconds = st.stx_ctime.tv_sec, .atime_nanoseconds = st.stx_atime.tv_nsec,
        .mtime_nanoseconds = st.stx_mtime.tv_nsec, .ctime_nanoseconds = st.stx_ctime.tv_nsec,
        .block_size = st.stx_blksize,
    };
    return 0;
}

// The kernel's record (getdents64(2)); glibc does not declare it.
struct kernel_dirent {
    uint64_t inode;
    int64_t offset;
    uint16_t record_length;
    uint8_t type;
    char name[];
};

ssize_t larder_getdents(int directory, void *buffer, size_t size) {
    return RESULT(syscall(SYS_getdents64, directory, buffer, size));
}

int larder_dirent_at(const void *buffer, size_t filled, size_t offset, struct larder_dirent *out) {
    if (offset + offsetof(struct kernel_dirent, name) >= filled) return 0;
    const struct kernel_dirent *record = (const void *)((const char *)buffer + offset);
    *out = (struct larder_dirent){
        .inode = record->inode, .next_offset = record->offset, .type = record->type, .name = record->name,
        .name_length = (uint16_t)strlen(record->name), .record_length = record->record_length,
    };
    return 1;
}

int larder_pipe(int ends[2]) { return RESULT(pipe2(ends, O_CLOEXEC)); }
int larder_memfd(const char *name) { return RESULT(memfd_create(name, MFD_CLOEXEC)); }
int larder_eventfd(void) { return RESULT(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }
int larder_punch_hole(int fd, uint64_t offset, uint64_t length) {
    return RESULT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length));
}
int larder_set_thread_name(const char *name) { return -pthread_setname_np(pthread_self(), name); }

static int unix_address(const char *path, struct sockaddr_un *address) {
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address->sun_path) return -ENAMETOOLONG;
    strcpy(address->sun_path, path);
    return 0;
}

// The kernel doubles what is asked and caps it at net.core.wmem_max; the default caps a message near 200 KiB.
static void widen(int socket) {
    int bytes = 1 << 20;
    setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

int larder_unix_listen(const char *path, int backlog) {
    struct sockaddr_un address;
    int error = unix_address(path, &address);
    if (error) return error;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, backlog) < 0) {
        error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

int larder_unix_connect(const char *path) {
    struct sockaddr_un address;
    int error = unix_address(path, &address);
    if (error) return error;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        error = -errno;
        close(fd);
        return error;
    }
    widen(fd);
    return fd;
}

int larder_unix_pair(int pair[2]) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -errno;
    widen(pair[0]);
    widen(pair[1]);
    return 0;
}

int larder_unix_accept(int listener) {
    int fd;
    do fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd < 0) return -errno;
    widen(fd);
    return fd;
}

int larder_peer_credentials(int socket, int32_t *pid, uint32_t *uid, uint32_t *gid) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return -errno;
    *pid = credentials.pid;
    *uid = credentials.uid;
    *gid = credentials.gid;
    return 0;
}

enum { MAX_FDS = 64 };

ssize_t larder_send(int socket, const void *bytes, size_t length, const int *fds, size_t fd_count) {
    if (fd_count > MAX_FDS) return -EINVAL;
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
    union {
        char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS)];
        struct cmsghdr align;
    } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    ssize_t sent;
    do sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

ssize_t larder_receive(int socket, void *bytes, size_t capacity, int *fds, size_t fd_capacity, size_t *fd_count) {
    struct iovec part = {.iov_base = bytes, .iov_len = capacity};
    union {
        char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS)];
        struct cmsghdr align;
    } control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t received;
    do received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (received < 0 && errno == EINTR);
    if (received < 0) return -errno;
    *fd_count = 0;
    int refused = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
            if (*fd_count < fd_capacity) fds[(*fd_count)++] = fd;
            else { close(fd); refused = 1; }
        }
    }
    if (refused) {
        while (*fd_count) close(fds[--*fd_count]);
        return -EMSGSIZE;
    }
    return received;
}

struct fuse_backing_map { int32_t fd; uint32_t flags; uint64_t padding; };
_Static_assert(sizeof(struct fuse_backing_map) == 16, "the kernel's struct fuse_backing_map");

int larder_fuse_backing_open(int fuse, int backing) {
    struct fuse_backing_map map = {.fd = backing};
    return RESULT(ioctl(fuse, _IOW(229, 1, struct fuse_backing_map), &map));
}
int larder_fuse_backing_close(int fuse, int backing_id) {
    uint32_t id = (uint32_t)backing_id;
    return RESULT(ioctl(fuse, _IOW(229, 2, uint32_t), &id));
}

int larder_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
    return RESULT(mount(source, target, type, flags, data));
}
int larder_unmount(const char *target, int flags) { return RESULT(umount2(target, flags)); }

int larder_effective_capabilities(uint64_t *mask) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0) return -errno;
    *mask = data[0].effective | (uint64_t)data[1].effective << 32;
    return 0;
}

int larder_flock_exclusive(int fd) { return RESULT(flock(fd, LOCK_EX | LOCK_NB)); }

// linux/fcntl.h has these seals from Linux 5.1; it cannot be included beside fcntl.h.
enum { SEAL_SEAL = 0x01, SEAL_SHRINK = 0x02, SEAL_GROW = 0x04, SEAL_FUTURE_WRITE = 0x10 };

int larder_memfd_sealable(const char *name, uint64_t size) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -errno;
    if (ftruncate(fd, (off_t)size) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}
int larder_seal_for_readers(int fd) {
    return RESULT(fcntl(fd, F_ADD_SEALS, SEAL_SEAL | SEAL_SHRINK | SEAL_GROW | SEAL_FUTURE_WRITE));
}
int larder_cannot_shrink(int fd) {
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & SEAL_SHRINK) != 0;
}

int larder_syncfs(int fd) { return RESULT(syncfs(fd)); }
