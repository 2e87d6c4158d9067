// What a person can do to a job. The feed brings the result; without it the page's data is read again.

import { post, remove } from "./api.ts";
import { catchUp } from "./live.ts";

export async function cancelJob(id: string): Promise<void> {
  await post(`/api/jobs/${id}/cancel`);
  await catchUp();
}

export async function retryJob(id: string): Promise<void> {
  await post(`/api/jobs/${id}/retry`);
  await catchUp();
}

export async function deleteJob(id: string): Promise<void> {
  await remove(`/api/jobs/${id}`);
  await catchUp();
}

export async function pinJob(id: string, pinned: boolean): Promise<void> {
  await post(`/api/jobs/${id}/${pinned ? "pin" : "unpin"}`);
  await catchUp();
}
