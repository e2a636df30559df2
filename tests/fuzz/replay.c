/*
 * replay.c - runs a fuzz target on the files of a folder, without libFuzzer: with any compiler and
 * sanitizer, in every run of the tests.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE_MAX_READ = 1 << 20 };

/* The bytes in memory of their very size, so that a sanitizer sees who reads beyond them. */
static void replay(const char *path)
{
	static uint8_t bytes[SIZE_MAX_READ];
	FILE *f = fopen(path, "rb");

	if (!f) {
		perror(path);
		exit(1);
	}
	size_t size = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	uint8_t *exact = malloc(size ? size : 1);
	if (!exact)
		exit(1);
	memcpy(exact, bytes, size);
	printf("%s\n", path); /* the last one, should this be the end */
	fflush(stdout);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
}

int main(int argc, char **argv)
{
	struct dirent *e;
	DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
	char path[4096];
	int n = 0;

	if (!folder) {
		fprintf(stderr, "usage: replay FOLDER\n");
		return 1;
	}
	while ((e = readdir(folder))) {
		if (*e->d_name == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argv[1], e->d_name);
		replay(path);
		n++;
	}
	closedir(folder);
	return n ? 0 : 1;
}
