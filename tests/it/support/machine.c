/*
 * Controls the wall clock and the disk of a process under test. Loaded before the C library (LD_PRELOAD); the program does
 * not notice.
 *
 * The environment variable MACHINE_CONTROL names a file of two 64-bit numbers: by how many nanoseconds the wall clock is
 * ahead, and the errno with which every write to a database file fails (0: none does). The file is mapped, so a change takes
 * effect immediately.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
	int64_t ahead;
	int64_t error_number;
};

static const volatile struct control *control;

__attribute__((constructor)) static void map_control(void)
{
	const char *path = getenv("MACHINE_CONTROL");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (file < 0)
		return;
	void *mapped = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, file, 0);
	close(file);
	if (mapped != MAP_FAILED)
		control = mapped;
}

#define REAL(type, name, ...)                                  \
	static type (*real)(__VA_ARGS__);                      \
	if (!real)                                             \
		real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int64_t ahead(void)
{
	return control ? control->ahead : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	REAL(int, "clock_gettime", clockid_t, struct timespec *);
	int done = real(clock, now);
	if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
		int64_t nanoseconds = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + ahead();
		now->tv_sec = nanoseconds / 1000000000;
		now->tv_nsec = nanoseconds % 1000000000;
	}
	return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec exact;
	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
		return -1;
	now->tv_sec = exact.tv_sec;
	now->tv_usec = exact.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *now)
{
	struct timespec exact;
	if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
		return (time_t)-1;
	if (now)
		*now = exact.tv_sec;
	return exact.tv_sec;
}

/* Returns whether a write to this file fails now, with errno set. */
static int fails(int file)
{
	int64_t error_number = control ? control->error_number : 0;
	if (error_number == 0)
		return 0;
	int before = errno;
	char link[32], path[PATH_MAX];
	snprintf(link, sizeof link, "/proc/self/fd/%d", file);
	ssize_t length = readlink(link, path, sizeof path - 1);
	errno = before;
	if (length < 0)
		return 0;
	path[length] = 0;
	if (!strstr(path, "/store.db"))
		return 0;
	errno = (int)error_number;
	return 1;
}

ssize_t write(int file, const void *bytes, size_t count)
{
	REAL(ssize_t, "write", int, const void *, size_t);
	return fails(file) ? -1 : real(file, bytes, count);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset)
{
	REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
	return fails(file) ? -1 : real(file, bytes, count, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset)
{
	REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
	return fails(file) ? -1 : real(file, bytes, count, offset);
}

int ftruncate(int file, off_t length)
{
	REAL(int, "ftruncate", int, off_t);
	return fails(file) ? -1 : real(file, length);
}

int ftruncate64(int file, off64_t length)
{
	REAL(int, "ftruncate64", int, off64_t);
	return fails(file) ? -1 : real(file, length);
}

int fsync(int file)
{
	REAL(int, "fsync", int);
	return fails(file) ? -1 : real(file);
}

int fdatasync(int file)
{
	REAL(int, "fdatasync", int);
	return fails(file) ? -1 : real(file);
}
