#define _GNU_SOURCE
#include "CLinuxFiles.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define RESULT(call) ({ __auto_type r_ = (call); r_ < 0 ? -errno : r_; })

_Static_assert(LARDER_RENAME_NOREPLACE == RENAME_NOREPLACE && LARDER_RENAME_EXCHANGE == RENAME_EXCHANGE, "the kernel's");
_Static_assert(LARDER_O_DIRECT == O_DIRECT && LARDER_O_NOATIME == O_NOATIME, "the kernel's");

int larder_make_directory(int directory, const char *name, unsigned mode) {
    return RESULT(mkdirat(directory, name, mode));
}
int larder_make_node(int directory, const char *name, unsigned mode, uint64_t device) {
    return RESULT(mknodat(directory, name, mode, device));
}
int larder_make_link(int directory, const char *name, const char *target) {
    return RESULT(symlinkat(target, directory, name));
}
int larder_make_hard_link(int from, const char *name, int to, const char *new_name) {
    return RESULT(linkat(from, name, to, new_name, 0));
}
int larder_remove(int directory, const char *name, int flags) { return RESULT(unlinkat(directory, name, flags)); }
int larder_rename(int from, const char *name, int to, const char *new_name, unsigned flags) {
    return RESULT(renameat2(from, name, to, new_name, flags));
}

int larder_change_owner(int fd, uint32_t uid, uint32_t gid) {
    return RESULT(fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

int larder_change_times(int fd, int64_t accessed, long accessed_nanoseconds, int64_t modified,
                        long modified_nanoseconds) {
    const struct timespec times[2] = {{accessed, accessed_nanoseconds}, {modified, modified_nanoseconds}};
    return RESULT(utimensat(fd, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

enum { PROC_PATH = 32 };
static const char *proc_path(int fd, char path[PROC_PATH]) {
    snprintf(path, PROC_PATH, "/proc/self/fd/%d", fd);
    return path;
}

int larder_change_mode(int fd, unsigned mode) {
    char path[PROC_PATH];
    return RESULT(chmod(proc_path(fd, path), mode));
}

int larder_reopen(int fd, int flags) {
    char path[PROC_PATH];
    int opened;
    do opened = open(proc_path(fd, path), flags | O_CLOEXEC);
    while (opened < 0 && errno == EINTR);
    return opened < 0 ? -errno : opened;
}

// Numbers and struct of include/uapi of Linux 6.13; the same on every architecture.
enum { CALL_SETXATTRAT = 463, CALL_GETXATTRAT = 464, CALL_LISTXATTRAT = 465, CALL_REMOVEXATTRAT = 466 };
struct xattr_arguments { uint64_t value; uint32_t size, flags; };

static long link_result(long result) { return result >= 0 ? result : errno == ENOSYS ? -ENOTSUP : -errno; }

ssize_t larder_getxattr_at(int fd, const char *link, const char *name, void *value, size_t capacity) {
    if (link) {
        struct xattr_arguments arguments = {.value = (uintptr_t)value, .size = (uint32_t)capacity};
        return link_result(
            syscall(CALL_GETXATTRAT, fd, link, AT_SYMLINK_NOFOLLOW, name, &arguments, sizeof arguments));
    }
    char path[PROC_PATH];
    return RESULT(getxattr(proc_path(fd, path), name, value, capacity));
}

ssize_t larder_listxattr_at(int fd, const char *link, void *names, size_t capacity) {
    if (link) return link_result(syscall(CALL_LISTXATTRAT, fd, link, AT_SYMLINK_NOFOLLOW, names, capacity));
    char path[PROC_PATH];
    return RESULT(listxattr(proc_path(fd, path), names, capacity));
}

int larder_setxattr_at(int fd, const char *link, const char *name, const void *value, size_t length, int flags) {
    if (link) {
        struct xattr_arguments arguments = {
            .value = (uintptr_t)value, .size = (uint32_t)length, .flags = (uint32_t)flags};
        return (int)link_result(
            syscall(CALL_SETXATTRAT, fd, link, AT_SYMLINK_NOFOLLOW, name, &arguments, sizeof arguments));
    }
    char path[PROC_PATH];
    return RESULT(setxattr(proc_path(fd, path), name, value, length, flags));
}

int larder_removexattr_at(int fd, const char *link, const char *name) {
    if (link) return (int)link_result(syscall(CALL_REMOVEXATTRAT, fd, link, AT_SYMLINK_NOFOLLOW, name));
    char path[PROC_PATH];
    return RESULT(removexattr(proc_path(fd, path), name));
}

int larder_fallocate(int fd, int mode, uint64_t offset, uint64_t length) {
    return RESULT(fallocate(fd, mode, (off_t)offset, (off_t)length));
}

struct larder_identity {
    struct __user_cap_data_struct capabilities[2];
    uint32_t uid, gid;
    int group_count;
    gid_t groups[];
};

static struct __user_cap_header_struct *capability_header(struct __user_cap_header_struct *header) {
    *header = (struct __user_cap_header_struct){.version = _LINUX_CAPABILITY_VERSION_3};
    return header;
}

static uint32_t file_uid(void) { return (uint32_t)syscall(SYS_setfsuid, -1); }
static uint32_t file_gid(void) { return (uint32_t)syscall(SYS_setfsgid, -1); }

int larder_identity_take(uint32_t uid, uint32_t gid, uint64_t capabilities, struct larder_identity **out) {
    int count = getgroups(0, NULL);
    if (count < 0) return -errno;
    struct larder_identity *saved = malloc(sizeof *saved + (size_t)count * sizeof(gid_t));
    if (!saved) return -ENOMEM;
    saved->group_count = count;
    saved->uid = file_uid();
    saved->gid = file_gid();
    struct __user_cap_header_struct header;
    if ((count && getgroups(count, saved->groups) != count)
        || syscall(SYS_capget, capability_header(&header), saved->capabilities) < 0
        || (count && syscall(SYS_setgroups, 0, NULL) < 0)) {
        int error = -errno;
        free(saved);
        return error;
    }
    syscall(SYS_setfsgid, gid);
    syscall(SYS_setfsuid, uid);
    struct __user_cap_data_struct reduced[2] = {saved->capabilities[0], saved->capabilities[1]};
    reduced[0].effective &= (uint32_t)capabilities;
    reduced[1].effective &= (uint32_t)(capabilities >> 32);
    // setfsuid(2) and setfsgid(2) report no errors.
    int error = file_uid() != uid || file_gid() != gid ? -EPERM
        : syscall(SYS_capset, capability_header(&header), reduced) < 0 ? -errno : 0;
    if (error) larder_identity_return(saved);
    else *out = saved;
    return error;
}

void larder_identity_return(struct larder_identity *saved) {
    struct __user_cap_header_struct header;
    // setgroups needs a capability, which needs capset; setfsuid changes capabilities, so it comes before.
    syscall(SYS_setfsuid, saved->uid);
    syscall(SYS_setfsgid, saved->gid);
    int failed = syscall(SYS_capset, capability_header(&header), saved->capabilities) < 0
        || (saved->group_count && syscall(SYS_setgroups, saved->group_count, saved->groups) < 0)
        || file_uid() != saved->uid || file_gid() != saved->gid;
    // A thread that goes on with the rights of another user would give them to the next one.
    if (failed) abort();
    free(saved);
}
