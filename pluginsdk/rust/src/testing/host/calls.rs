//! The host functions of native tests.

use super::super::path::FieldPath;
use super::*;

impl abi::Host for Host {
    fn log(&mut self, _: i32, text: &[u8]) -> i32 {
        self.world.logs.push(cut(text, limit::LOG));
        0
    }

    fn input_get(&mut self, buf: &mut [u8]) -> i32 {
        match &self.moment {
            Moment::Plan { input } => fill(buf, input.as_bytes()),
            _ => Errno::ENOTSUP.0,
        }
    }

    fn output_set(&mut self, output: &[u8]) -> i32 {
        number((|| {
            if !matches!(self.moment, Moment::Plan { .. }) {
                return Err(Errno::ENOTSUP);
            }
            if output.len() > limit::MESSAGE {
                return Err(Errno::E2BIG);
            }
            self.output = Some(Text::parse(text(output)?).map_err(|_| Errno::EINVAL)?);
            Ok(0)
        })())
    }

    fn error_set(&mut self, text: &[u8]) -> i32 {
        self.error_text = cut(text, limit::TEXT);
        0
    }

    fn config_get(&mut self, buf: &mut [u8]) -> i32 {
        fill(buf, self.config.json().raw().as_bytes())
    }

    fn now(&mut self) -> i64 {
        self.world.now
    }

    fn random(&mut self, buf: &mut [u8]) -> i32 {
        if buf.len() > limit::RANDOM {
            return Errno::E2BIG.0;
        }
        let mut bytes = self.world.random.iter().cycle();
        buf.iter_mut()
            .for_each(|b| *b = bytes.next().copied().unwrap_or(0));
        buf.len() as i32
    }

    fn path_register(&mut self, path: &[u8]) -> i32 {
        number((|| {
            self.may("cleat_object_v1")?;
            if !matches!(self.moment, Moment::Start) {
                return Err(Errno::ENOTSUP);
            }
            let text = text(path)?;
            let path = FieldPath::parse(text).ok_or_else(|| {
                self.error_text = format!("field path {text:?} is malformed");
                Errno::EINVAL
            })?;
            if !self
                .readable
                .iter()
                .chain(&self.writable)
                .any(|p| p.covers(&path))
            {
                return Err(Errno::EACCES);
            }
            if let Some(id) = self.paths.iter().position(|(_, known)| *known == path) {
                return Ok(id as i32);
            }
            if self.paths.len() == limit::PATHS {
                return Err(Errno::E2BIG);
            }
            self.paths.push((text.into(), path));
            Ok(self.paths.len() as i32 - 1)
        })())
    }

    fn object_get(&mut self, handle: i32, path_id: i32, buf: &mut [u8]) -> i32 {
        number((|| {
            let request = self.request("cleat_object_v1", handle)?;
            let (_, path) = self.path(path_id)?;
            if !self.readable.iter().any(|p| p.covers(path)) {
                return Err(Errno::EACCES);
            }
            Ok(fill(buf, &path.encoded(object(&request.object)?.json())))
        })())
    }

    fn object_set(&mut self, handle: i32, path_id: i32, index: i32, text: &[u8]) -> i32 {
        number(self.record("set", handle, path_id, index, text))
    }

    fn object_remove(&mut self, handle: i32, path_id: i32, index: i32) -> i32 {
        number(self.record("remove", handle, path_id, index, &[]))
    }

    fn object_append(&mut self, handle: i32, path_id: i32, index: i32, text: &[u8]) -> i32 {
        number(self.record("append", handle, path_id, index, text))
    }

    fn object_json(&mut self, handle: i32, which: i32, buf: &mut [u8]) -> i32 {
        number((|| {
            let request = self.request("cleat_object_json_v1", handle)?;
            let json = match which {
                abi::OBJECT_NEW => &request.object,
                abi::OBJECT_OLD => &request.old_object,
                _ => return Err(Errno::EINVAL),
            };
            Ok(fill(buf, object(json)?.json().raw().as_bytes()))
        })())
    }

    fn request_get(&mut self, handle: i32, field: i32, buf: &mut [u8]) -> i32 {
        number((|| {
            let r = self.request("cleat_request_v1", handle)?;
            let dry_run = r.dry_run.to_string();
            // In the order of abi::Field.
            let fields = [
                &r.operation,
                &r.group,
                &r.version,
                &r.kind,
                &r.resource,
                &r.subresource,
                &r.namespace,
                &r.name,
                &r.user,
                &dry_run,
                &r.id,
                &r.user_uid,
            ];
            let text = fields.get(field as usize).ok_or(Errno::EINVAL)?;
            Ok(fill(buf, text.as_bytes()))
        })())
    }

    fn namespace_label_get(&mut self, handle: i32, key: &[u8], buf: &mut [u8]) -> i32 {
        number((|| {
            let labels = &self.request("cleat_request_v1", handle)?.namespace_labels;
            Ok(fill(
                buf,
                labels.get(text(key)?).ok_or(Errno::ENOENT)?.as_bytes(),
            ))
        })())
    }

    fn user_groups_get(&mut self, handle: i32, buf: &mut [u8]) -> i32 {
        number((|| {
            Ok(fill_value(
                buf,
                &self.request("cleat_request_v1", handle)?.user_groups,
            ))
        })())
    }

    fn user_extra_get(&mut self, handle: i32, key: &[u8], buf: &mut [u8]) -> i32 {
        number((|| {
            let extra = &self.request("cleat_request_v1", handle)?.user_extra;
            Ok(fill_value(buf, extra.get(text(key)?).ok_or(Errno::ENOENT)?))
        })())
    }

    fn deny(&mut self, handle: i32, text: &[u8], code: i32) -> i32 {
        number((|| {
            self.request("cleat_request_v1", handle)?;
            if code != 0 && !(400..600).contains(&code) {
                return Err(Errno::EINVAL);
            }
            self.verdict.message = cut(text, limit::TEXT);
            self.verdict.code = code;
            Ok(0)
        })())
    }

    fn warn(&mut self, handle: i32, text: &[u8]) -> i32 {
        number((|| {
            self.request("cleat_request_v1", handle)?;
            if self.verdict.warnings.len() == limit::WARNINGS {
                return Err(Errno::E2BIG);
            }
            self.verdict.warnings.push(cut(text, limit::TEXT));
            Ok(0)
        })())
    }

    fn audit(&mut self, handle: i32, key: &[u8], value: &[u8]) -> i32 {
        number((|| {
            self.request("cleat_request_v1", handle)?;
            let key = text(key)?;
            if key.is_empty()
                || !key
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            {
                return Err(Errno::EINVAL);
            }
            if self.verdict.audit.len() == limit::WARNINGS && !self.verdict.audit.contains_key(key)
            {
                return Err(Errno::E2BIG);
            }
            self.verdict
                .audit
                .insert(key.into(), cut(value, limit::TEXT));
            Ok(0)
        })())
    }

    fn render_yaml(&mut self, yaml: &[u8], buf: &mut [u8]) -> i32 {
        number((|| {
            self.may("cleat_render_v1")?;
            let yaml = text(yaml)?;
            let result = match &self.world.render_yaml {
                Some(render) => render(yaml),
                None => documents(yaml),
            };
            self.rendered(result, buf)
        })())
    }

    fn render_helm(&mut self, request: &[u8], buf: &mut [u8]) -> i32 {
        number((|| {
            self.may("cleat_render_v1")?;
            let request = Json::from_bytes(request).map_err(|_| Errno::EINVAL)?;
            let render = self.world.render_helm.as_ref().ok_or(Errno::ENOTSUP)?;
            let result = render(&Field::read(request));
            self.rendered(result, buf)
        })())
    }

    fn render_kustomize(&mut self, request: &[u8], buf: &mut [u8]) -> i32 {
        number((|| {
            self.may("cleat_render_v1")?;
            let request = Json::from_bytes(request).map_err(|_| Errno::EINVAL)?;
            let render = self.world.render_kustomize.as_ref().ok_or(Errno::ENOTSUP)?;
            let result = render(&Field::read(request));
            self.rendered(result, buf)
        })())
    }

    fn lookup_get(
        &mut self,
        kind: &[u8],
        namespace: &[u8],
        name: &[u8],
        path: &[u8],
        buf: &mut [u8],
    ) -> i32 {
        number((|| {
            let (namespace, name) = (text(namespace)?, text(name)?);
            let mut objects = self.lookup(text(kind)?)?;
            let object = objects.find(|o| place(*o) == (namespace.into(), name.into()));
            Ok(fill(buf, &at(text(path)?, object.ok_or(Errno::ENOENT)?)?))
        })())
    }

    fn lookup_list(
        &mut self,
        kind: &[u8],
        namespace: &[u8],
        selector: &[u8],
        path: &[u8],
        buf: &mut [u8],
    ) -> i32 {
        number((|| {
            let (namespace, selector) = (text(namespace)?, text(selector)?);
            let mut objects: Vec<Json> = self.lookup(text(kind)?)?.collect();
            objects.retain(|o| namespace.is_empty() || place(*o).0 == namespace);
            objects.sort_by_key(|o| place(*o));
            let mut values = Vec::new();
            let mut count = 0u32;
            for o in objects {
                if selects(selector, o.get("metadata").get("labels"))? {
                    values.extend(at(text(path)?, o)?);
                    count += 1;
                }
            }
            let head = [&[abi::TAG_LIST][..], &count.to_le_bytes()].concat();
            Ok(fill(buf, &[head, values].concat()))
        })())
    }

    fn kv_get(&mut self, key: &[u8], buf: &mut [u8]) -> i32 {
        number((|| {
            self.may("cleat_kv_v1")?;
            self.cluster()?;
            let key = text(key)?;
            let value = self.state.get(key).or_else(|| self.world.state.get(key));
            Ok(fill(
                buf,
                value.filter(|v| !v.is_empty()).ok_or(Errno::ENOENT)?,
            ))
        })())
    }

    fn kv_set(&mut self, key: &[u8], value: &[u8]) -> i32 {
        number((|| {
            self.may("cleat_kv_v1")?;
            self.cluster()?;
            if key.is_empty() || key.len() > limit::KEY {
                return Err(Errno::EINVAL);
            }
            if value.len() > limit::STATE_VALUE {
                return Err(Errno::E2BIG);
            }
            self.state.insert(text(key)?.into(), value.into());
            Ok(0)
        })())
    }
}
