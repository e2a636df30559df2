/*
 * script.h - the language of the *.cases files.
 *
 *	case NAME             begins a case; $V in it, and in the name, is what `each` says
 *	each V WORD...        the case runs once for every WORD, all combinations of several `each`
 *	    OP ARG...         one step; {TEXT*N} in it is TEXT, N times
 *	# comment             empty lines and lines that begin so are passed over
 */
#ifndef POSIX_SCRIPT_H
#define POSIX_SCRIPT_H

#include <stddef.h>

enum { SCRIPT_STEPS = 200, SCRIPT_WORDS = 12, SCRIPT_LINE = 1024 };

/* One case with every variable replaced. Valid during the call that it is given to. */
struct script_case {
	char name[SCRIPT_LINE];
	size_t n;
	char steps[SCRIPT_STEPS][SCRIPT_LINE];
};

/* Calls `fn` for every case of the file, in order. Ends the program where the file has a mistake.
 */
void script_each(const char *file, void (*fn)(void *arg, const struct script_case *c), void *arg);

/* Splits a step into words, each malloced, with {TEXT*N} done. How many there are. */
size_t script_words(const char *step, char *words[SCRIPT_WORDS]);

#endif
