/* See failing_calls.py: calls on files below FAILING_BELOW fail as FAILING_CALLS says. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

static int below(const char *path) {
    const char *place = getenv("FAILING_BELOW");
    return path && place && !strncmp(path, place, strlen(place));
}
static int wanted(const char *call) {
    const char *mode = getenv("FAILING_CALLS"); size_t n = strlen(call);
    while (mode && *mode) {
        if (!strncmp(mode, call, n) && mode[n] == ':') return atoi(mode + n + 1);
        mode = strchr(mode, ','); if (mode) mode++;
    }
    return 0;
}
static int by_path(const char *call, const char *path) {
    int error = wanted(call);
    if (!error || !below(path)) return 0;
    errno = error; return 1;
}
static int by_fd(const char *call, int fd) {
    int error = wanted(call); char link[64], path[4096]; ssize_t n;
    if (!error) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    if (!below(path)) return 0;
    errno = error; return 1;
}
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
int flock(int fd, int op) { return by_fd("flock", fd) ? -1 : REAL(flock)(fd, op); }
int fsync(int fd) { return by_fd("fsync", fd) ? -1 : REAL(fsync)(fd); }
int ftruncate(int fd, off_t n) { return by_fd("ftruncate", fd) ? -1 : REAL(ftruncate)(fd, n); }
int ftruncate64(int fd, off64_t n) { return by_fd("ftruncate", fd) ? -1 : REAL(ftruncate64)(fd, n); }
ssize_t write(int fd, const void *b, size_t n) { return by_fd("write", fd) ? -1 : REAL(write)(fd, b, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { return by_fd("pwrite", fd) ? -1 : REAL(pwrite)(fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { return by_fd("pwrite", fd) ? -1 : REAL(pwrite64)(fd, b, n, o); }
ssize_t read(int fd, void *b, size_t n) { return by_fd("read", fd) ? -1 : REAL(read)(fd, b, n); }
ssize_t preadv64(int fd, const struct iovec *v, int c, off64_t o) { return by_fd("pread", fd) ? -1 : REAL(preadv64)(fd, v, c, o); }
ssize_t preadv64v2(int fd, const struct iovec *v, int c, off64_t o, int f) { return by_fd("pread", fd) ? -1 : REAL(preadv64v2)(fd, v, c, o, f); }
int fchmod(int fd, mode_t m) { return by_fd("chmod", fd) ? -1 : REAL(fchmod)(fd, m); }
int chmod(const char *p, mode_t m) { return by_path("chmod", p) ? -1 : REAL(chmod)(p, m); }
int utimensat(int d, const char *p, const struct timespec t[2], int f) { return by_path("utime", p) ? -1 : REAL(utimensat)(d, p, t, f); }
int link(const char *a, const char *b) { return by_path("link", b) ? -1 : REAL(link)(a, b); }
int linkat(int d, const char *a, int e, const char *b, int f) { return by_path("link", b) ? -1 : REAL(linkat)(d, a, e, b, f); }
int rename(const char *a, const char *b) { return by_path("rename", b) ? -1 : REAL(rename)(a, b); }
int unlink(const char *p) { return by_path("unlink", p) ? -1 : REAL(unlink)(p); }
int unlinkat(int d, const char *p, int f) { return by_fd("unlink", d) || by_path("unlink", p) ? -1 : REAL(unlinkat)(d, p, f); }
int mkdir(const char *p, mode_t m) { return by_path("mkdir", p) ? -1 : REAL(mkdir)(p, m); }
int statvfs(const char *p, struct statvfs *s) { return by_path("statvfs", p) ? -1 : REAL(statvfs)(p, s); }
int statvfs64(const char *p, struct statvfs64 *s) { return by_path("statvfs", p) ? -1 : REAL(statvfs64)(p, s); }
DIR *opendir(const char *p) { return by_path("opendir", p) ? NULL : REAL(opendir)(p); }
static int opened(const char *p, int flags) {
    return (flags & O_DIRECTORY) ? 0 : by_path("open", p) || ((flags & O_CREAT) && by_path("create", p));
}
int open(const char *p, int f, ...) {
    va_list a; mode_t m; va_start(a, f); m = va_arg(a, int); va_end(a);
    return opened(p, f) ? -1 : REAL(open)(p, f, m);
}
int open64(const char *p, int f, ...) {
    va_list a; mode_t m; va_start(a, f); m = va_arg(a, int); va_end(a);
    return opened(p, f) ? -1 : REAL(open64)(p, f, m);
}
static int locks(int c) { return c == F_OFD_SETLK || c == F_OFD_SETLKW || c == F_SETLK || c == F_SETLKW; }
int fcntl(int fd, int c, ...) {
    va_list a; void *v; va_start(a, c); v = va_arg(a, void *); va_end(a);
    return locks(c) && by_fd("fcntl", fd) ? -1 : REAL(fcntl)(fd, c, v);
}
int fcntl64(int fd, int c, ...) {
    va_list a; void *v; va_start(a, c); v = va_arg(a, void *); va_end(a);
    return locks(c) && by_fd("fcntl", fd) ? -1 : REAL(fcntl64)(fd, c, v);
}
