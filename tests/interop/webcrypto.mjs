// Node 18 has Web Crypto but does not make it a global, which `jose` expects. Imported before anything of `jose`.

import { webcrypto } from 'node:crypto'

globalThis.crypto ??= webcrypto
