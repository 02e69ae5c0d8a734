// Connects to a Unix socket or a loopback port, sends a text, prints what comes back. For tests that need a process of
// another user: `node probe.mjs '{"path": "..."} or {"port": N}' TEXT`.
import { connect } from 'node:net';

const [, , target, text] = process.argv;
const socket = connect({ host: '127.0.0.1', ...JSON.parse(target) });
const end = (note) => { console.log(note); process.exit(0); };
setTimeout(() => end(''), 3000);
socket.on('error', (error) => end(`[${error.code}]`));
socket.on('connect', () => socket.write(text));
socket.on('data', (data) => process.stdout.write(data));
socket.on('close', () => end('[closed]'));
