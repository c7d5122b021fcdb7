/** Edits of the live policy, based on the generation in view; how they went is said at the foot of the page. */

import { createSignal, type Accessor } from "solid-js";
import type * as http from "../protocol/http";
import { ServerError } from "../protocol/messages";
import type { Applied } from "../protocol/types";
import { generation } from "./rules";
import { toast } from "./toasts";

/** An edit that would cut somebody's connection, and how to make it all the same. */
export interface LockOut {
  message: string;
  go(): void;
}

export interface Edits {
  lockOut: Accessor<LockOut | null>;
  setLockOut(next: LockOut | null): void;
  edit(what: string, run: (edit: http.Edit) => Promise<Applied>): Promise<void>;
}

export function createEdits(): Edits {
  const [lockOut, setLockOut] = createSignal<LockOut | null>(null);
  const edit = async (what: string, run: (edit: http.Edit) => Promise<Applied>, force = false): Promise<void> => {
    const base = generation();
    try {
      const done = await run({ ...(base === null ? {} : { base_generation: base }), ...(force ? { force } : {}) });
      toast("ok", `${what}: policy ${done.generation} is live${done.warnings.length > 0 ? `, with a warning: ${done.warnings[0]!.message}` : ""}`);
    } catch (error) {
      if (error instanceof ServerError && error.code === "lock-out") {
        setLockOut({ message: error.message, go: () => void edit(what, run, true) });
      } else {
        toast("bad", `${what}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  };
  return { lockOut, setLockOut, edit: (what, run) => edit(what, run) };
}
