// Stream batches with nothing but the .proto, put the parts together, and print one line of JSON per batch.
// usage: node stream.js PROTO_ROOT ADDRESS REQUEST_JSON [TOKEN]
const crypto = require("node:crypto");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const [protoRoot, address, request, token] = process.argv.slice(2);
const definition = protoLoader.loadSync("augclient/wire/v1/augserver.proto", { includeDirs: [protoRoot], keepCase: true, longs: Number, enums: String, defaults: true });
const { AugServer } = grpc.loadPackageDefinition(definition).augserver.v1;
const client = new AugServer(address, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
if (token) metadata.set("authorization", `Bearer ${token}`);

const ITEM_BYTES = { float32: 4, float16: 2, uint8: 1 };
const product = (shape) => shape.reduce((a, b) => a * b, 1);
const digest = (bytes) => crypto.createHash("sha256").update(bytes).digest("hex");

let header, image, label, received;
const call = client.StreamBatches(JSON.parse(request), metadata);
call.on("data", (part) => {
  if (part.header) {
    header = part.header;
    image = Buffer.alloc(product(header.image_shape) * ITEM_BYTES[header.image_dtype]);
    label = Buffer.alloc(header.label_shape.length ? product(header.label_shape) : 0);
    received = 0;
  }
  received += part.image.copy(image, part.image_offset) + part.label.copy(label, part.label_offset);
  if (part.last) {
    console.log(JSON.stringify({
      step: part.step, complete: received === image.length + label.length, image_shape: header.image_shape, label_shape: header.label_shape,
      volumes: header.samples.map((sample) => sample.volume), image: digest(image), label: digest(label),
    }));
  }
});
call.on("error", (error) => {
  console.error(`${grpc.status[error.code]} ${error.metadata.get("augserver-error")}: ${error.details}`);
  process.exitCode = 1;
  client.close();
});
call.on("end", () => client.close());
