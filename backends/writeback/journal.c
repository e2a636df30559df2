#include "backends/writeback/journal.h"

#include <errno.h>
#include <string.h>

#include "backends/writeback/pack.h"

enum {
	VERSION = 2,
	REMOTE_HAS = 1,
	BASE_KNOWN = 2,
	FAILED = 4,
	OLD_VERSION = 1, /* had no `first` */
	OLD_SIZE = JOURNAL_SIZE - 8,
};

void journal_pack(const struct journal *j, unsigned char out[JOURNAL_SIZE])
{
	unsigned char *p = pack_number(out, VERSION, 1);

	p = pack_number(p, j->op, 1);
	p = pack_number(p,
		(j->remote_has ? REMOTE_HAS : 0u) | (j->base_known ? BASE_KNOWN : 0u) |
			(j->failed ? FAILED : 0u),
		1);
	p = pack_number(p, j->seq, 8);
	p = pack_number(p, j->first, 8);
	p = pack_number(p, (uint64_t)j->changed, 8);
	p = pack_number(p, (uint64_t)j->not_before, 8);
	p = pack_number(p, j->base, 8);
	p = pack_number(p, j->tries, 4);
	pack_number(p, (uint32_t)-j->error, 4);
}

int journal_unpack(const void *bytes, size_t len, struct journal *out)
{
	struct unpack u = {bytes, len};
	uint64_t version = unpack_number(&u, 1), op = unpack_number(&u, 1);
	uint64_t flags = unpack_number(&u, 1);

	bool old = version == OLD_VERSION && len == OLD_SIZE;

	if ((!old && (len != JOURNAL_SIZE || version != VERSION)) ||
		(op != JOURNAL_PUT && op != JOURNAL_REMOVE))
		return -EBADMSG;
	*out = (struct journal){
		.op = (enum journal_op)op,
		.remote_has = flags & REMOTE_HAS,
		.base_known = flags & BASE_KNOWN,
		.failed = flags & FAILED,
	};
	out->seq = unpack_number(&u, 8);
	out->first = old ? out->seq : unpack_number(&u, 8);
	out->changed = (int64_t)unpack_number(&u, 8);
	out->not_before = (int64_t)unpack_number(&u, 8);
	out->base = unpack_number(&u, 8);
	out->tries = (uint32_t)unpack_number(&u, 4);
	out->error = -(int)unpack_number(&u, 4);
	return 0;
}

static struct entry_id beside(uint32_t ns, const struct entry_id *key)
{
	return (struct entry_id){.ns = ns, .kind = ENTRY_KEY, .len = key->len, .bytes = key->bytes};
}

int journal_get(struct store *local, uint32_t ns, const struct entry_id *key, struct journal *out)
{
	struct entry_id id = beside(ns, key);
	unsigned char bytes[JOURNAL_SIZE + 1];
	struct value v;
	int rc = local->ops->read(local, &id, INT64_MIN, &v);

	if (rc)
		return rc;
	int64_t n = value_read(&v, 0, bytes, sizeof(bytes));
	value_release(&v);
	return n < 0 ? (int)n : journal_unpack(bytes, (size_t)n, out);
}

int journal_put(struct store *local, uint32_t ns, const struct entry_id *key,
	const struct journal *j, struct change *out)
{
	unsigned char bytes[JOURNAL_SIZE];
	struct blob *value;

	journal_pack(j, bytes);
	int rc = blob_new_copy(local->blobs, bytes, sizeof(bytes), &value);
	if (!rc)
		*out = (struct change){.op = CHANGE_PUT, .id = beside(ns, key), .value = value};
	return rc;
}

void journal_drop(uint32_t ns, const struct entry_id *key, struct change *out)
{
	*out = (struct change){.op = CHANGE_REMOVE, .id = beside(ns, key)};
}

const char *journal_reason(int error)
{
	switch (-error) {
	case EFBIG:
		return "the value is too large for the remote store";
	case ERANGE:
		return "the metadata is too large for the remote store";
	case EILSEQ:
		return "the key is not UTF-8";
	case EINVAL:
		return "the remote store refuses this key, value or metadata as malformed";
	case EACCES:
		return "the token is refused";
	case EDQUOT:
		return "the plan's quota of the day is used up";
	case ENODEV:
		return "the namespace does not exist any more";
	case ETIMEDOUT:
		return "the remote store does not answer";
	default:
		return strerror(-error);
	}
}

bool journal_is_final(int error)
{
	return error == -EFBIG || error == -ERANGE || error == -EILSEQ || error == -EINVAL;
}
