/* get.c - fetches / from an HTTPS server: ringtls_write in place of SSL_write. */
#include <stdio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <ringtls/ringtls.h>

int main(int argc, char **argv)
{
	static const char request[] = "GET / HTTP/1.0\r\n\r\n";
	BIO *tcp = argc == 3 ? BIO_new_connect(argv[1]) : NULL;
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);
	struct ringtls_conn_info info = { .size = sizeof(info) };
	struct ringtls_engine *engine;
	struct ringtls_conn *conn;
	char buf[16384];
	int n = -1;

	if (!tcp || BIO_set_conn_port(tcp, argv[2]) <= 0 || BIO_do_connect(tcp) <= 0) {
		fprintf(stderr, "usage: get HOST PORT\n");
		ERR_print_errors_fp(stderr); /* why there is no connection */
		return 2;
	}
	SSL_CTX_set_default_verify_paths(ctx);
	SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
	SSL_set1_host(ssl, argv[1]);
	SSL_set_tlsext_host_name(ssl, argv[1]);
	SSL_set_connect_state(ssl);

	if (ringtls_engine_new(&engine, NULL) < 0 ||
	    ringtls_conn_new(&conn, engine, ssl, (int)BIO_get_fd(tcp, NULL), NULL) < 0)
		return 1;
	if (ringtls_write(conn, request, sizeof(request) - 1) > 0) /* the handshake, too */
		while ((n = ringtls_read(conn, buf, sizeof(buf))) > 0)
			fwrite(buf, 1, (size_t)n, stdout);
	n = ringtls_get_error(conn, n);
	ERR_print_errors_fp(stderr);
	ringtls_conn_get_info(conn, &info);
	fprintf(stderr, "lane=%s reason=%s\n", ringtls_lane_name(info.lane),
		ringtls_reason_name(info.reason));
	ringtls_shutdown(conn);
	ringtls_conn_free(conn);
	ringtls_engine_free(engine);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	BIO_free(tcp);
	return n == SSL_ERROR_ZERO_RETURN ? 0 : 1; /* the peer said that this was all */
}
