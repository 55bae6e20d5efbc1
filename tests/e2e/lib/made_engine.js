// Models and Python environments as engines other than llama.cpp have them, made for a test.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

import { fakeEngine, scratch } from './environment.js';

/** A directory as `hf download` leaves one: weights, a configuration, a directory, and a hidden file that is nobody's business. */
export function modelDirectory(name) {
  const directory = path.join(scratch, 'models', name);
  fs.mkdirSync(path.join(directory, '1_Pooling'), { recursive: true, mode: 0o755 });
  const header = Buffer.from(JSON.stringify({ 'model.embed_tokens.weight': { dtype: 'F32', shape: [4], data_offsets: [0, 16] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const put = (file, text) => fs.writeFileSync(path.join(directory, file), text, { mode: 0o644 });
  put('model.safetensors', Buffer.concat([length, header, Buffer.alloc(16)]));
  put('config.json', '{"model_type": "made"}');
  put('1_Pooling/config.json', '{}');
  put('.gitattributes', '');
  return directory;
}

/**
 * A virtual environment with vLLM and SGLang in it, which are the stand-in behind a script: bin/vllm, whose first line is of another machine, and the module
 * sglang.launch_server. They find the stand-in by their interpreter's prefix, as packages find their libraries.
 */
export function pythonEnvironment() {
  const prefix = path.join(scratch, 'venv');
  execFileSync('/usr/bin/python3', ['-m', 'venv', '--without-pip', '--symlinks', prefix]);
  const inside = 'import os, sys\nengine = os.path.join(sys.prefix, "bin", "fake-engine")\n';
  fs.copyFileSync(fakeEngine, path.join(prefix, 'bin/fake-engine'));
  fs.writeFileSync(path.join(prefix, 'bin/vllm'), `#!/builder/of/the/package/python3\n${inside}os.execv(engine, [engine] + sys.argv[1:])\n`, { mode: 0o755 });
  const [site] = fs.readdirSync(path.join(prefix, 'lib')).map((version) => path.join(prefix, 'lib', version, 'site-packages'));
  fs.mkdirSync(path.join(site, 'sglang'), { recursive: true });
  fs.writeFileSync(path.join(site, 'sglang/__init__.py'), '');
  fs.writeFileSync(path.join(site, 'sglang/launch_server.py'), `${inside}os.execv(engine, [engine, "-m", "sglang.launch_server"] + sys.argv[1:])\n`);
  execFileSync('chmod', ['-R', 'go+rX', prefix]);
  return prefix;
}
