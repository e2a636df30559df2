#include "backends/cloudflare/retry.h"

int64_t retry_delay(unsigned attempt, uint32_t random)
{
	static const int64_t first = INT64_C(500000000), last = INT64_C(8000000000);
	int64_t delay = attempt > 5 ? last : first << (attempt ? attempt - 1 : 0);

	if (delay > last)
		delay = last;
	return delay - (int64_t)((uint64_t)(delay / 4) * random / UINT32_MAX);
}
