// node_peer.js - Node.js as a peer of ringtls, in either role (peering.py).
//
//   node node_peer.js '{"role":"client"|"server", ...}'
//
// A client makes two connections, the second with the session of the first; on each it
// puts the file "up" and leaves the answer's body in "out" and its number. A server says
// on which port it is, and answers every PUT with the file "down". Both print a JSON
// object for each connection.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const https = require('https');
const tls = require('tls');

const options = JSON.parse(process.argv[2]);
const version = 'TLSv' + options.tls;
const common = {
  ca: fs.readFileSync(options.ca),
  minVersion: version,
  maxVersion: version,
};
if (options.cert) {
  common.cert = fs.readFileSync(options.cert);
  common.key = fs.readFileSync(options.key);
}

function say(object) {
  fs.writeSync(1, JSON.stringify(object) + '\n');
}

function client() {
  const up = fs.readFileSync(options.up);
  const head = `PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${up.length}\r\n\r\n`;

  function connect(number, session) {
    const got = [];
    let next;
    const socket = tls.connect({
      ...common, host: '127.0.0.1', port: options.port, servername: 'localhost', session,
    }, () => {
      socket.write(head);
      socket.write(up);
    });
    socket.on('session', (data) => { next = data; });
    socket.on('data', (data) => got.push(data));
    socket.on('error', (error) => {
      say({ event: 'error', code: error.code, message: error.message });
      process.exit(1);
    });
    socket.on('end', () => {
      const all = Buffer.concat(got);
      const body = all.subarray(all.indexOf('\r\n\r\n') + 4);
      fs.writeFileSync(options.out + number, body);
      say({ event: 'connection', reused: socket.isSessionReused() });
      socket.end();
    });
    socket.on('close', () => {
      if (number < options.connections - 1)
        connect(number + 1, next);
    });
  }
  connect(0);
}

function server() {
  const down = fs.readFileSync(options.down);
  const sessions = new Map(); // by their id; tickets need none
  const listener = https.createServer({
    ...common,
    requestCert: options.demand,
    rejectUnauthorized: options.demand,
    secureOptions: options.tickets ? 0 : crypto.constants.SSL_OP_NO_TICKET,
  }, (request, response) => {
    const hash = crypto.createHash('sha256');
    request.on('data', (data) => hash.update(data));
    request.on('end', () => {
      const cert = options.demand ? request.socket.getPeerCertificate() : {};
      say({
        event: 'connection',
        sha256: hash.digest('hex'),
        subject: cert.subject ? cert.subject.CN : '',
        reused: request.socket.isSessionReused(),
      });
      response.writeHead(200, { 'Content-Length': down.length, Connection: 'close' });
      response.end(down);
    });
  });
  listener.on('newSession', (id, data, done) => {
    sessions.set(id.toString('hex'), data);
    done();
  });
  listener.on('resumeSession', (id, done) => done(null, sessions.get(id.toString('hex')) || null));
  listener.on('tlsClientError',
    (error) => say({ event: 'error', code: error.code, message: error.message }));
  listener.listen(0, '127.0.0.1',
    () => say({ event: 'listening', port: listener.address().port }));
}

if (options.role === 'client')
  client();
else
  server();
