// Loaded into firebase-tools: its connections to the functions are used once. Node keeps them for five seconds, gunicorn,
// which serves the functions, for two: on a busy machine the emulator writes into one that was closed ("socket hang up").
const http = require("node:http");

http.globalAgent = new http.Agent({ keepAlive: false });
