/*
 * send_file.c - an HTTPS server that sends one file: ringtls_sendfile.
 *
 *   send_file CERT KEY FILE [CONNECTIONS]
 *
 * Blocking sockets, one connection after the other, on a free port of 127.0.0.1,
 * which it prints. With a number it ends after so many connections.
 */
#define _GNU_SOURCE /* accept4 */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <ringtls/ringtls.h>

static int listen_on_loopback(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&in, len) < 0 || listen(fd, 16) < 0 ||
	    getsockname(fd, (struct sockaddr *)&in, &len) < 0) {
		perror("listen");
		exit(1);
	}
	printf("listening on 127.0.0.1:%d\n", ntohs(in.sin_port));
	fflush(stdout);
	return fd;
}

static SSL_CTX *load(const char *cert, const char *key)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (!ctx || SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
		ERR_print_errors_fp(stderr);
		exit(1);
	}
	return ctx;
}

/* Reads up to the empty line that ends a request. */
static int take_request(struct ringtls_conn *conn)
{
	char text[8192];
	size_t n = 0;
	int r;

	do {
		r = ringtls_read(conn, text + n, (int)(sizeof(text) - 1 - n));
		if (r <= 0)
			return -1;
		n += (size_t)r;
		text[n] = '\0';
	} while (!strstr(text, "\r\n\r\n") && n < sizeof(text) - 1);
	return 0;
}

static int answer(struct ringtls_conn *conn, int file)
{
	struct stat st;
	char head[128];
	off_t done = 0;
	ssize_t n = 1;
	int len;

	if (fstat(file, &st) < 0)
		return -1;
	len = snprintf(head, sizeof(head), "HTTP/1.0 200 OK\r\nContent-Length: %lld\r\n\r\n",
		       (long long)st.st_size);
	if (ringtls_write(conn, head, len) <= 0)
		return -1;
	while (done < st.st_size && n > 0) {
		n = ringtls_sendfile(conn, file, done, (size_t)(st.st_size - done), 0);
		if (n > 0)
			done += n;
	}
	return done == st.st_size ? 0 : -1;
}

static void serve(struct ringtls_engine *engine, SSL_CTX *ctx, int fd, int file)
{
	struct ringtls_conn_info info = { .size = sizeof(info) };
	SSL *ssl = SSL_new(ctx);
	struct ringtls_conn *conn = NULL;

	SSL_set_accept_state(ssl);
	if (ringtls_conn_new(&conn, engine, ssl, fd, NULL) < 0 || take_request(conn) < 0 ||
	    answer(conn, file) < 0 || ringtls_shutdown(conn) < 0)
		ERR_print_errors_fp(stderr);
	if (conn && ringtls_conn_get_info(conn, &info) == 0) {
		printf("lane=%s bytes=%llu\n", ringtls_lane_name(info.lane),
		       (unsigned long long)info.bytes);
		fflush(stdout);
	}
	ringtls_conn_free(conn);
	SSL_free(ssl);
	close(fd);
}

int main(int argc, char **argv)
{
	struct ringtls_engine *engine;
	int listener, file, left;
	SSL_CTX *ctx;

	if (argc < 4 || (file = open(argv[3], O_RDONLY | O_CLOEXEC)) < 0) {
		fprintf(stderr, "usage: send_file CERT KEY FILE [CONNECTIONS]\n");
		return 2;
	}
	ctx = load(argv[1], argv[2]);
	if (ringtls_engine_new(&engine, NULL) < 0)
		return 1;
	listener = listen_on_loopback();
	for (left = argc > 4 ? atoi(argv[4]) : -1; left; left -= left > 0) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			serve(engine, ctx, fd, file);
	}
	ringtls_engine_free(engine);
	SSL_CTX_free(ctx);
	close(listener);
	close(file);
	return 0;
}
