/* opts.h - leaf: option and information structures that grow at their end. */
#ifndef RINGTLS_OPTS_H
#define RINGTLS_OPTS_H

#include <stddef.h>

/* Copies what the caller's structure (NULL: all defaults) has of ours; -EINVAL
 * when its size is 0, or it is longer and what we don't know is not zero. */
int ringtls__opts_take(void *ret_opts, size_t ours, const void *opts, size_t theirs);

/* Gives what fits into *size bytes, and sets *size to what was given. */
int ringtls__info_give(void *ret_info, size_t *size, const void *info, size_t ours);

#endif
