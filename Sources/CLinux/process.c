#define _GNU_SOURCE
#include "CLinuxProcess.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/xattr.h>
#include <unistd.h>

static int place(posix_spawn_file_actions_t *actions, int from, int to) {
    if (from < 0) return posix_spawn_file_actions_addopen(actions, to, "/dev/null", to ? O_WRONLY : O_RDONLY, 0);
    return posix_spawn_file_actions_adddup2(actions, from, to);
}

int larder_spawn(const char *program, char *const arguments[], char *const environment[],
                 const struct larder_spawn_plan *plan) {
    // The caller's descriptors must be above 3, or placing one could overwrite the next: duplicates are.
    const int wanted[4] = {plan->standard_input, plan->standard_output, plan->standard_error, plan->status};
    int moved[4] = {-1, -1, -1, -1}, error = 0;
    for (int i = 0; i < 4 && !error; i++)
        if (wanted[i] >= 0 && (moved[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, 4)) < 0) error = errno;

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    for (int i = 0; i < 3 && !error; i++) error = place(&actions, moved[i], i);
    if (!error && moved[3] >= 0) error = posix_spawn_file_actions_adddup2(&actions, moved[3], 3);
    if (!error) error = posix_spawn_file_actions_addclosefrom_np(&actions, moved[3] >= 0 ? 4 : 3);
    if (!error && plan->directory) error = posix_spawn_file_actions_addchdir_np(&actions, plan->directory);

    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
                                              | (plan->new_session ? POSIX_SPAWN_SETSID : 0));
    pid_t pid = -1;
    if (!error) error = posix_spawn(&pid, program, &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    for (int i = 0; i < 4; i++)
        if (moved[i] >= 0) close(moved[i]);
    return error ? -error : pid;
}

ssize_t larder_getxattr(const char *path, const char *name, void *value, size_t capacity) {
    ssize_t length = getxattr(path, name, value, capacity);
    return length < 0 ? -errno : length;
}

int larder_setxattr(const char *path, const char *name, const void *value, size_t length) {
    return setxattr(path, name, value, length, 0) < 0 ? -errno : 0;
}

int larder_terminal_columns(int fd) {
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) < 0 ? -errno : size.ws_col;
}

int larder_open_files_limit(uint64_t *soft, uint64_t *hard) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
    *soft = limit.rlim_cur;
    *hard = limit.rlim_max;
    return 0;
}

int larder_raise_open_files_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? -errno : 0;
}
