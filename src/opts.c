/* opts.c - see opts.h. */
#include "config.h"
#include "opts.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

int ringtls__opts_take(void *ret_opts, size_t ours, const void *opts, size_t theirs)
{
	memset(ret_opts, 0, ours);
	if (!opts)
		return 0;
	if (theirs < sizeof(size_t))
		return -EINVAL;
	for (size_t i = ours; i < theirs; i++)
		if (((const uint8_t *)opts)[i])
			return -EINVAL;
	memcpy(ret_opts, opts, theirs < ours ? theirs : ours);
	return 0;
}

int ringtls__info_give(void *ret_info, size_t *size, const void *info, size_t ours)
{
	size_t n = *size < ours ? *size : ours;

	if (n < sizeof(*size))
		return -EINVAL;
	memcpy(ret_info, info, n);
	*size = n;
	return 0;
}
