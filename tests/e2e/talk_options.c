/* talk_options.c - talk's command line. */
#include "config.h"
#include "say.h"
#include "talk.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t lane_of(const char *name)
{
	uint32_t lane = RINGTLS_LANE_AUTO;

	while (name && strcmp(name, ringtls_lane_name(lane)) && lane < RINGTLS_LANE_OPENSSL)
		lane++;
	return lane;
}

#define TEXTS(X)                                                                                   \
	X("tls", tls)                                                                              \
	X("lane", lane)                                                                            \
	X("engine", engine)                                                                        \
	X("cipher", cipher)                                                                        \
	X("cert", cert)                                                                            \
	X("key", key)                                                                              \
	X("ca", ca)                                                                                \
	X("session", session)                                                                      \
	X("send", send)                                                                            \
	X("output", output)

#define FLAGS(X)                                                                                   \
	X("serve", serve)                                                                          \
	X("demand", demand)                                                                        \
	X("post-handshake", post)                                                                  \
	X("no-ticket", no_ticket)                                                                  \
	X("answer", answer)                                                                        \
	X("http", http)                                                                            \
	X("renegotiate", renegotiate)                                                              \
	X("silent", silent)

#define NUMBERS(X)                                                                                 \
	X("connections", connections)                                                              \
	X("early", early)                                                                          \
	X("receive", receive)                                                                      \
	X("key-update-every", update_every)                                                        \
	X("renegotiate-every", renegotiate_every)                                                  \
	X("per-byte", per_byte)

enum option_id {
#define ID(name, field) ID_##field,
	TEXTS(ID) FLAGS(ID) NUMBERS(ID) ID_timeout,
	ID_update_request
};

static const struct option option_table[] = {
#define WITH_ARGUMENT(name, field) {name, 1, NULL, ID_##field},
#define WITHOUT(name, field)	   {name, 0, NULL, ID_##field},
	TEXTS(WITH_ARGUMENT) FLAGS(WITHOUT) NUMBERS(WITH_ARGUMENT){"timeout", 1, NULL, ID_timeout},
	{"key-update-request", 0, NULL, ID_update_request},
	{NULL, 0, NULL, 0},
};

static void usage(void)
{
	fprintf(stderr, "usage: talk [OPTION]... ADDRESS:PORT\n"
#define SAY(name, field) "  --" name "\n"
		TEXTS(SAY) FLAGS(SAY) NUMBERS(SAY) "  --timeout SECONDS  of silence (20)\n"
						   "  --key-update-request\n");
	exit(2);
}

static void take_option(struct options *o, int id)
{
	switch (id) {
#define TAKE_TEXT(name, field)                                                                     \
	case ID_##field:                                                                           \
		o->field = optarg;                                                                 \
		break;
#define TAKE_FLAG(name, field)                                                                     \
	case ID_##field:                                                                           \
		o->field = true;                                                                   \
		break;
#define TAKE_NUMBER(name, field)                                                                   \
	case ID_##field:                                                                           \
		o->field = say_number(optarg, usage);                                              \
		break;
		TEXTS(TAKE_TEXT)
		FLAGS(TAKE_FLAG)
		NUMBERS(TAKE_NUMBER)
	case ID_timeout:
		o->timeout_ms = (int)say_number(optarg, usage) * 1000;
		break;
	case ID_update_request:
		o->update_type = SSL_KEY_UPDATE_REQUESTED;
		break;
	default:
		usage();
	}
}

void take_options(struct options *o, int argc, char **argv, char **ret_address)
{
	int c;

	*o = (struct options){.receive = NO_LIMIT,
			      .timeout_ms = 20000,
			      .update_type = SSL_KEY_UPDATE_NOT_REQUESTED};
	while ((c = getopt_long(argc, argv, "", option_table, NULL)) != -1)
		take_option(o, c);
	if (optind != argc - 1 || (o->cert && !o->key))
		usage();
	o->answer |= o->http;
	*ret_address = argv[optind];
}
