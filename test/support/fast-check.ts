// fast-check with the seed of the run, so that a test that passes does so every time.

import fc from "fast-check";
import { seed } from "./requirements.ts";

fc.configureGlobal({ seed });

export { fc };
