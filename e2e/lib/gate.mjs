// A TCP proxy whose connections a test can cut, to simulate a failing network.
import { connect, createServer } from 'node:net';

export class Gate {
  static async open(port) {
    const gate = new Gate();
    gate.sockets = new Set();
    gate.requests = [];
    gate.server = createServer((client) => gate.pass(client, port));
    await new Promise((resolve) => gate.server.listen(0, '127.0.0.1', resolve));
    gate.url = `http://localhost:${gate.server.address().port}`;
    return gate;
  }

  pass(client, port) {
    const server = connect(port, '127.0.0.1');
    client.on('data', (bytes) => this.requests.push(bytes.toString()));
    for (const [socket, other] of [[client, server], [server, client]]) {
      this.sockets.add(socket);
      socket.on('error', () => {}).on('close', () => {
        this.sockets.delete(socket);
        other.destroy();
      });
    }
    client.pipe(server).pipe(client);
  }

  cut() { for (const socket of this.sockets) socket.destroy(); }

  close() {
    this.server.close();
    this.cut();
  }
}
