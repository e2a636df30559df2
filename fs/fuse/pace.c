#include "fs/fuse/pace.h"

enum {
	NEAR_MAX = 16,
	NEAR_LEAST = 8,
	NEAR_LATE = 4, /* what one that was late costs */
	STREAM_MAX = 64,
	STREAM_LEAST = 32,
	STREAM_LATE = 16,
};

static int moved(int score, bool soon, int late, int max)
{
	score += soon ? 1 : -late;
	return score < 0 ? 0 : score > max ? max : score;
}

void pace_note(struct pace *p, int64_t gap_ns)
{
	bool soon = gap_ns < PACE_NEAR_NS;

	p->near = moved(p->near, soon, NEAR_LATE, NEAR_MAX);
	p->stream = moved(p->stream, soon, STREAM_LATE, STREAM_MAX);
}

bool pace_looks_out(const struct pace *p)
{
	return p->near >= NEAR_LEAST;
}

bool pace_is_stream(const struct pace *p)
{
	return p->stream >= STREAM_LEAST;
}
