-- What the embedded engine remembers. Times are seconds since 1970, UTC.
create table if not exists runs (
  dag_id text not null,
  run_id text not null,
  state text not null check (state in ('queued', 'running', 'success', 'failed')),
  run_type text not null,
  queued real not null,
  started real,
  ended real,
  conf text not null,
  note text not null,
  document text not null,  -- the DAG's file as it was when the run began: editing it changes no run that is on its way
  primary key (dag_id, run_id)
) without rowid;

create index if not exists runs_by_time on runs (queued);
create index if not exists runs_at_work on runs (state) where state in ('queued', 'running');

create table if not exists tasks (
  dag_id text not null,
  run_id text not null,
  task_id text not null,
  state text not null,
  try_number integer not null default 0,
  max_tries integer not null,
  started real,
  ended real,
  due real,  -- when the next attempt may begin
  primary key (dag_id, run_id, task_id),
  foreign key (dag_id, run_id) references runs on delete cascade
) without rowid;

create table if not exists attempts (
  attempt integer primary key autoincrement,
  dag_id text not null,
  run_id text not null,
  task_id text not null,
  try_number integer not null,
  state text not null,
  started real not null,
  ended real,
  token text not null,  -- stands in the process's environment, by which it is known again
  pid integer,
  unique (dag_id, run_id, task_id, try_number),
  foreign key (dag_id, run_id) references runs on delete cascade
);

create table if not exists log_lines (
  attempt integer not null references attempts on delete cascade,
  line integer not null,
  time real not null,
  level text not null,
  text text not null,
  primary key (attempt, line)
) without rowid;
